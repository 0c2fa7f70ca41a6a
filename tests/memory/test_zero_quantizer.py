from vramlint.memory.tensor import Parameter
from vramlint.memory.zero_partition import Piece
from vramlint.memory.zero_quantizer import QuantizedReduction, groups_of, stored_bytes


def matrix(rows: int, columns: int) -> Piece:
    return Piece(Parameter("weight", (rows, columns), "bfloat16", trainable=True, multiplicity=1), 0, 0, 0)


def test_groups_hold_a_multiple_of_eight_elements_and_at_most_eight_thousand() -> None:
    for elements in (512, 4096 * 4096 // 8, 128256 * 4096 // 64, 14336 * 4096 // 16):
        groups = groups_of(elements)
        assert elements % (8 * groups) == 0
        assert elements / groups <= 8000


def test_a_stored_weight_has_a_byte_for_each_element_and_a_scale_for_each_group() -> None:
    assert stored_bytes(8192) == 8192 + 4 * groups_of(8192)
    assert stored_bytes(0) == 0


def test_a_matrix_is_packed_twice_in_four_bits() -> None:
    reduction = QuantizedReduction(world=16, machines=2, width=2)
    elements = 4096 * 4096
    copied = 2 * reduction.copies([matrix(4096, 4096)], elements, 10 * elements)
    assert elements < copied < 1.7 * elements


def test_a_vector_goes_as_it_is() -> None:
    vector = Piece(Parameter("norm", (4096,), "bfloat16", trainable=True, multiplicity=1), 0, 0, 0)
    assert QuantizedReduction(world=16, machines=2, width=2).copies([vector], 4096, 1 << 20) == 0
