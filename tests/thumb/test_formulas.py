"""Every worked figure of the five articles, held against its rule. Where an article slips, the test says so."""

import pytest

from vramlint.thumb import formulas as f

B = 10**9
GB = 10**9
GIB = 2**30


class TestEstimate:
    """[NLP] LLM 训练时 GPU 显存耗用量估计."""

    @pytest.mark.parametrize(("precision", "megabytes"), [("fp32", 4), ("fp16", 2), ("bf16", 2)])
    def test_a_million_parameters(self, precision, megabytes):
        size = f.weights(10**6, precision)
        assert size == megabytes * 10**6
        assert size * 8 == megabytes * 8 * 10**6, "32 Mb in fp32, 16 Mb in 16 bits"

    def test_gpt2_1_5b(self):
        assert f.weights(1_500_000_000, "fp16") == 3 * GB
        assert f.states_16(1_500_000_000) == 24 * GB

    @pytest.mark.parametrize(("card", "alone", "half"), [(24, 1.5, 0.75), (80, 5, 2.5)])
    def test_the_largest_model_of_a_card(self, card, alone, half):
        assert f.largest_model(card * GB) == alone * B
        assert f.largest_model_half_card(card * GB) == half * B

    def test_activations_of_gpt2(self):
        """GPT-2 1.5B (48 layers, width 1600), sequence 1K, batch 32: about 60 GB."""
        assert f.activations_gpt2(b=32, s=1024, h=1600, layers=48) / GB == pytest.approx(60, rel=0.01)

    @pytest.mark.parametrize(
        ("parameters", "band"),
        [
            (int(0.9 * B), "nearly any card"),
            (B, "most cards at their limit"),
            (5 * B, "most cards at their limit"),
            (6 * B, "no card"),
        ],
    )
    def test_the_watershed(self, parameters, band):
        assert f.market_band(parameters) == band


PROMPT_LENGTHS = range(100, 6000, 200)
CHATGLM2_MIB = (
    *(11981.6, 12013.1, 12056.8, 12104.2, 12147.9, 12194.3, 12246.2, 12283.9, 12326.7, 12372.1),
    *(12418.0, 12463.4, 12504.6, 12553.7, 12593.3, 12638.4, 12682.5, 12729.0, 12790.8, 12846.8),
    *(12894.1, 12944.5, 12990.2, 13030.0, 13080.4, 13126.8, 13173.1, 13218.4, 13265.5, 13305.6),
)


def line_through(xs, ys):
    """Slope and intercept of the least-squares line."""
    n = len(xs)
    mean_x, mean_y = sum(xs) / n, sum(ys) / n
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / sum((x - mean_x) ** 2 for x in xs)
    return slope, mean_y - slope * mean_x


class TestUnits:
    """模型参数单位 / 推理显存 / 训练显存计算."""

    def test_a_billion_in_fp32(self):
        assert f.weights(B, "fp32") / GIB == pytest.approx(3.725, abs=0.0005)

    def test_llama_2_7b_in_fp32(self):
        """3.725 × 7: the article counts exactly 7 billion and rounds per billion."""
        assert f.weights(7 * B, "fp32") / GIB == pytest.approx(26.075, abs=0.01)

    def test_llama_6b(self):
        assert f.weights(6 * B, "fp32") == f.gradients(6 * B, "fp32") == 24 * GB
        assert f.adam_states(6 * B, "fp32") == 48 * GB
        assert f.adam_states(6 * B, "int8") == 12 * GB

    def test_llama_6b_int8_in_all(self):
        assert f.weights(6 * B, "int8") == f.gradients(6 * B, "int8") == 6 * GB
        assert f.simple_training(6 * B, "int8") == pytest.approx(25.3 * GB)

    def test_card_flops(self):
        assert f.card_flops(1280, 1_400_000_000, 2) == pytest.approx(3.584e12)

    def test_inference_memory_grows_in_proportion_to_length(self):
        """The measured ChatGLM2-6B series lies on a line, as the article claims: none is further off than 0.2 %."""
        lengths = list(PROMPT_LENGTHS)
        assert len(lengths) == len(CHATGLM2_MIB) == 30
        assert list(CHATGLM2_MIB) == sorted(CHATGLM2_MIB)
        slope, start = line_through(lengths, CHATGLM2_MIB)
        assert max(abs(start + slope * x - y) for x, y in zip(lengths, CHATGLM2_MIB, strict=True)) < 0.002 * start
        assert slope == pytest.approx(0.23, abs=0.01), "MiB per character"

    def test_the_series_starts_at_the_weights(self):
        """6.24 billion parameters in fp16 are 11.9 thousand MiB; the line meets the axis there."""
        _, start = line_through(list(PROMPT_LENGTHS), CHATGLM2_MIB)
        assert start == pytest.approx(f.weights(6_243_584_000, "fp16") / 2**20, rel=0.01)

    def test_one_and_two_tenths_of_the_weights_fall_short_in_a_long_prompt(self):
        """Rule E's 1.2 × weights holds up to some length only; here it is never exceeded within 5,900 characters."""
        assert CHATGLM2_MIB[-1] * 2**20 < f.inference(f.weights(6_243_584_000, "fp16"))

    def test_threads_share_the_weights(self):
        assert f.inference_in_threads(12 * GB, 13 * GB, 4) == 16 * GB
        assert f.inference_in_threads(12 * GB, 13 * GB, 1) == 13 * GB


class TestTransformer:
    """transformer 系列 5 — transformer 显存占用分析."""

    def test_7b_in_fp16(self):
        assert f.weights(7 * B, "fp16") == 14 * GB

    @pytest.mark.parametrize(("b", "s", "d", "h"), [(1, 1, 1, 1), (2, 128, 768, 12), (4, 2048, 4096, 32)])
    def test_attention_is_the_sum_of_its_parts(self, b, s, d, h):
        inputs, scores, softmax, mask = 2 * b * s * d, 4 * b * s * d, 2 * b * h * s**2, b * h * s**2
        values, projection, dropout = 2 * b * h * s**2 + 2 * b * s * d, 2 * b * s * d, b * s * d
        total = inputs + scores + softmax + mask + values + projection + dropout
        assert f.attention_activations(b, s, d, h) == total == 11 * b * s * d + 5 * b * h * s**2

    def test_mlp_is_the_sum_of_its_parts(self):
        assert f.mlp_activations(2, 128, 768) == (2 + 8 + 8 + 1) * 2 * 128 * 768 == 19 * 2 * 128 * 768

    def test_bytes_per_parameter(self):
        assert f.states_20(1) == (2 + 4) + (2 + 4) + 8
        assert f.states_24(1) == (4 + 4) + (4 + 4) + 8

    def test_optimizer_copies_of_the_parameters(self):
        """SGD keeps none, momentum one, Adam two copies."""
        assert f.adam_states(B, "fp32") == 2 * f.weights(B, "fp32")

    def test_inference_is_the_weights(self):
        assert f.weights(1, "fp16") == 2
        assert f.weights(1, "fp32") == 4

    def test_a_layer_agrees_with_the_other_articles_formula(self):
        """11bsd + 5bhs² + 19bsd leaves out the two LayerNorm inputs (4bsd) that s·b·h·(34 + 5as/h) counts."""
        b, s, d, h = 2, 512, 1024, 16
        layer = f.attention_activations(b, s, d, h) + f.mlp_activations(b, s, d)
        assert f.activations(b, s, d, h, layers=1) - layer == 4 * b * s * d


class TestPrimitives:
    """LLM 分布式训练第一课 (通讯原语)."""

    def test_7b(self):
        assert 14 + 14 + 14 + 14 + 28 + 28 == 112
        assert f.states_with_updates(7 * B) == 112 * GB
        assert f.weights(7 * B, "fp16") == 14 * GB
        assert f.adam_states(7 * B, "fp32") == (28 + 28) * GB


class TestRequired:
    """大模型所需 GPU 内存."""

    def test_training_compute(self):
        compute = f.training_compute(7 * B, 10**12)
        assert compute == 6 * 7 * B * 10**12
        assert f.gpu_hours(compute, 312e12, 0.5) == pytest.approx(compute / 312e12 / 0.5 / 3600)

    def test_recomputation_costs_between_two_and_four(self):
        assert f.forward_compute(6 * B, 1000) == (2 * 6 * B * 1000, 4 * 6 * B * 1000)

    @pytest.mark.parametrize(("precision", "gigabytes"), [("int8", 6), ("fp16", 12), ("fp32", 24), ("int4", 3)])
    def test_chatglm_6b_weights(self, precision, gigabytes):
        assert f.weights(6 * B, precision) == gigabytes * GB

    def test_inference(self):
        assert f.inference(12 * GB) == 14.4 * GB

    @pytest.mark.parametrize(("optimizer", "gigabytes"), [("adamw", 72), ("adamw-8bit", 36), ("sgd-momentum", 48)])
    def test_chatglm_6b_optimizers(self, optimizer, gigabytes):
        """The article prints 36 GB for SGD with momentum too: a slip, 8 bytes make 48."""
        assert f.optimizer_copies(6 * B, optimizer) == gigabytes * GB

    def test_chatglm_6b_gradients(self):
        assert f.gradients(6 * B, "fp32") == 24 * GB
        assert f.gradients(6 * B, "fp16") == 12 * GB

    def test_chatglm_6b_activations(self):
        """The article rounds s·b·h·L to 0.23 G first, which lowers its three figures by 2 %."""
        s, b, h, layers, a = 2048, 1, 4096, 28, 32
        unit = s * b * h * layers
        assert round(unit / GB, 2) == 0.23
        rounded = 0.23 * GB / unit
        assert f.activations(b, s, h, a, layers) * rounded / GB == pytest.approx(26.22)
        assert f.activations_selective(b, s, h, layers) * rounded / GB == pytest.approx(7.8, abs=0.05)
        assert f.activations_full(b, s, h, layers) * rounded / GB == pytest.approx(0.46)
        assert f.activations(b, s, h, a, layers) / GB == pytest.approx(26.22, rel=0.025)

    def test_tensor_parallelism_divides_all_but_ten_bytes(self):
        assert f.activations_selective(1, 8, 8, 1, t=8) == 8 * 8 * (10 + 3)
        assert f.activations(1, 8, 8, 2, 1, t=2) == 8 * 8 * (10 + 12 + 5)

    def test_chatglm_6b_in_all(self):
        """12 + 72 + 12 + 7.8 is 103.8; the article cuts it to 103."""
        total = f.weights(6 * B, "fp16") + f.optimizer_copies(6 * B, "adamw") + f.gradients(6 * B, "fp16") + 7.8 * GB
        assert total == pytest.approx(103.8 * GB)
        assert int(total / GB) == 103

    def test_qwen2_vl_2b_on_one_card(self):
        """4 + 4 + 8 + 8 + 8 and 0.7 × 4 of activations make 34.8 GB; the article prints 24.8, a carry lost."""
        parts = f.weights(2 * B, "bf16") + f.gradients(2 * B, "bf16") + f.optimizer_copies(2 * B, "adamw")
        activations = 0.7 * f.weights(2 * B, "bf16")
        assert f.weights(2 * B, "bf16") == f.gradients(2 * B, "bf16") == 4 * GB
        assert f.optimizer_copies(2 * B, "adamw") == (8 + 8 + 8) * GB
        assert parts + activations == pytest.approx((24.8 + 10) * GB)

    def test_qwen2_vl_2b_on_eight_cards(self):
        """fp32 weights, fp32 gradients, V and S divided by 8: 4 + 4 + 32/8 + 2.8."""
        assert f.zero_sharded(2 * B, 8) + 0.7 * f.weights(2 * B, "bf16") == pytest.approx(14.8 * GB)

    def test_bytes_per_precision(self):
        assert dict(f.BYTES_PER_PARAMETER) == {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1, "int4": 0.5}


def test_the_articles_disagree_about_mixed_precision_adam():
    assert [rule(1) for rule in (f.states_16, f.states_18, f.states_20, f.states_24)] == [16, 18, 20, 24]
