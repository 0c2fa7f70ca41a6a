"""One short file per architecture family; each reads like the model's own forward.

`FAMILIES` says by task and `model_type` of a config.json which class builds and runs a model. A run needs one of
them, so each is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vramlint.memory.architectures.family import Network

FAMILIES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "causal-lm": {
            "Yi": "llama:Llama",
            "aquila": "llama:Llama",
            "arcee": "arcee:Arcee",
            "baichuan": "remote:Baichuan",
            "bloom": "bloom:Bloom",
            "chatglm": "remote:ChatGLM",
            "codegen": "codegen:CodeGen",
            "cohere": "cohere:Cohere",
            "cohere2": "cohere:Cohere2",
            "cwm": "ministral:Cwm",
            "deepseek": "remote:DeepSeek",
            "deepseek_v2": "deepseek:DeepseekV2",
            "deepseek_v3": "deepseek:DeepseekV3",
            "dots1": "dots1:Dots1",
            "ernie4_5": "ernie4_5:Ernie45",
            "ernie4_5_moe": "ernie4_5_moe:Ernie45Moe",
            "exaone": "remote:Exaone",
            "exaone4": "exaone4:Exaone4",
            "falcon": "falcon:Falcon",
            "gemma": "gemma:Gemma",
            "gemma2": "gemma2:Gemma2",
            "gemma3": "gemma3_multimodal:Gemma3Multimodal",
            "gemma3_text": "gemma3:Gemma3",
            "glm": "glm:Glm",
            "glm4": "glm:Glm4",
            "glm4_moe": "glm4_moe:Glm4Moe",
            "glm4_moe_lite": "glm4_moe_lite:Glm4MoeLite",
            "gpt2": "gpt2:GPT2",
            "gpt_bigcode": "gpt_bigcode:GPTBigCode",
            "gpt_neo": "gpt_neo:GPTNeo",
            "gpt_neox": "gpt_neox:GPTNeoX",
            "gpt_oss": "gpt_oss:GptOss",
            "gptj": "gptj:GPTJ",
            "granite": "granite:Granite",
            "granitemoe": "granite_moe:GraniteMoe",
            "granitemoeshared": "granite_moe_shared:GraniteMoeShared",
            "helium": "helium:Helium",
            "hunyuan_v1_dense": "hunyuan:HunYuanDense",
            "hunyuan_v1_moe": "hunyuan_moe:HunYuanMoE",
            "internlm": "remote:InternLM",
            "internlm2": "remote:InternLM2",
            "internlm3": "llama:Llama",
            "iquestcoder": "llama:Llama",
            "jais2": "jais2:Jais2",
            "litgpt": "litgpt:GPT",
            "llama": "llama:Llama",
            "megatron": "megatron:GPTModel",
            "neox": "neox:GPT2ModelPipe",
            "mimo": "llama:Llama",
            "minicpm": "remote:MiniCPM",
            "minimax_m2": "minimax_m2:MiniMaxM2",
            "ministral": "ministral:Ministral",
            "ministral3": "ministral:Ministral3",
            "mistral": "llama:Llama",
            "mixtral": "mixtral:Mixtral",
            "mpt": "mpt:Mpt",
            "nemotron": "nemotron:Nemotron",
            "olmo": "olmo:Olmo",
            "olmo2": "olmo2:Olmo2",
            "olmo3": "olmo2:Olmo3",
            "olmoe": "olmoe:Olmoe",
            "openai-gpt": "openai_gpt:OpenAIGPT",
            "opt": "opt:OPT",
            "orion": "remote:Orion",
            "phi": "phi:Phi",
            "phi3": "phi3:Phi3",
            "phimoe": "phimoe:PhiMoe",
            "qwen": "remote:Qwen",
            "qwen2": "llama:Llama",
            "qwen2_moe": "qwen_moe:Qwen2Moe",
            "qwen3": "llama:Llama",
            "qwen3_moe": "qwen_moe:Qwen3Moe",
            "qwen3_5": "qwen3_next:Qwen35",
            "qwen3_5_moe": "qwen3_next:Qwen35Moe",
            "qwen3_5_moe_text": "qwen3_next:Qwen35Moe",
            "qwen3_5_text": "qwen3_next:Qwen35",
            "qwen3_next": "qwen3_next:Qwen3Next",
            "seed_oss": "seed_oss:SeedOss",
            "smollm3": "smollm3:SmolLM3",
            "stablelm": "stablelm:StableLm",
            "starcoder2": "starcoder2:Starcoder2",
            "torchtitan": "torchtitan:Transformer",
            "torchtitan_latent": "torchtitan_latent:LatentTransformer",
            "torchtitan_moe": "torchtitan_moe:MixtureTransformer",
            "torchtune": "torchtune:TransformerDecoder",
            "vaultgemma": "vaultgemma:VaultGemma",
            "xglm": "xglm:XGLM",
            "xverse": "llama:Llama",
        },
        "masked-lm": {
            "albert": "albert:AlbertForMaskedLM",
            "bert": "bert:BertForMaskedLM",
            "camembert": "bert:BertForMaskedLM",
            "deberta": "deberta_heads:DebertaForMaskedLM",
            "deberta-v2": "deberta_heads:DebertaV2ForMaskedLM",
            "distilbert": "distilbert:DistilBertForMaskedLM",
            "electra": "electra:ElectraForMaskedLM",
            "ernie": "ernie:ErnieForMaskedLM",
            "esm": "esm:EsmForMaskedLM",
            "megatron": "megatron_bert:BertModel",
            "modernbert": "modernbert_heads:ModernBertForMaskedLM",
            "mpnet": "mpnet:MPNetForMaskedLM",
            "nomic_bert": "nomic_bert:NomicBertForMaskedLM",
            "roberta": "bert:BertForMaskedLM",
            "xlm-roberta": "bert:BertForMaskedLM",
        },
        "seq-cls": {
            "albert": "albert:AlbertForSequenceClassification",
            "bart": "bart:BartForSequenceClassification",
            "bert": "bert:BertForSequenceClassification",
            "camembert": "bert:RobertaForSequenceClassification",
            "deberta": "deberta_heads:DebertaForSequenceClassification",
            "deberta-v2": "deberta_heads:DebertaV2ForSequenceClassification",
            "distilbert": "distilbert:DistilBertForSequenceClassification",
            "electra": "electra:ElectraForSequenceClassification",
            "ernie": "ernie:ErnieForSequenceClassification",
            "esm": "esm:EsmForSequenceClassification",
            "modernbert": "modernbert_heads:ModernBertForSequenceClassification",
            "mpnet": "mpnet:MPNetForSequenceClassification",
            "nomic_bert": "nomic_bert:NomicBertForSequenceClassification",
            "mbart": "mbart:MBartForSequenceClassification",
            "mt5": "t5:MT5ForSequenceClassification",
            "plbart": "mbart:PLBartForSequenceClassification",
            "roberta": "bert:RobertaForSequenceClassification",
            "t5": "t5:T5ForSequenceClassification",
            "umt5": "t5:UMT5ForSequenceClassification",
            "xlm-roberta": "bert:RobertaForSequenceClassification",
        },
        "token-cls": {
            "esm": "esm:EsmForTokenClassification",
            "modernbert": "modernbert_heads:ModernBertForTokenClassification",
        },
        "qa": {
            "modernbert": "modernbert_heads:ModernBertForQuestionAnswering",
        },
        "image-cls": {
            "beit": "beit:BeitForImageClassification",
            "clip": "clip:ClipForImageClassification",
            "convnext": "convnext:ConvNextForImageClassification",
            "deit": "vit:DeiTForImageClassification",
            "dinov2": "dinov2:Dinov2ForImageClassification",
            "dinov2_with_registers": "dinov2:Dinov2WithRegistersForImageClassification",
            "resnet": "resnet:ResNetForImageClassification",
            "siglip": "siglip:SiglipForImageClassification",
            "swin": "swin:SwinForImageClassification",
            "vit": "vit:ViTForImageClassification",
        },
        "audio-cls": {
            "audio-spectrogram-transformer": "audio_spectrogram_transformer:ASTForAudioClassification",
            "hubert": "speech_heads:SpeechForSequenceClassification",
            "wav2vec2": "speech_heads:SpeechForSequenceClassification",
            "whisper": "whisper:WhisperForAudioClassification",
        },
        "contrastive": {
            "clip": "clip:ClipModel",
            "siglip": "siglip:SiglipModel",
        },
        "ctc": {
            "hubert": "speech_heads:SpeechForCTC",
            "wav2vec2": "speech_heads:SpeechForCTC",
        },
        "seq2seq-lm": {
            "bart": "bart:Bart",
            "blenderbot": "blenderbot:Blenderbot",
            "blenderbot-small": "blenderbot:BlenderbotSmall",
            "m2m_100": "mbart:M2M100",
            "marian": "marian:Marian",
            "mbart": "mbart:MBart",
            "megatron": "megatron_t5:T5Model",
            "mt5": "t5:MT5",
            "pegasus": "marian:Pegasus",
            "plbart": "mbart:PLBart",
            "t5": "t5:T5",
            "umt5": "t5:UMT5",
        },
        "speech-seq2seq": {
            "whisper": "whisper:Whisper",
        },
    }
)
"""Task to `model_type` to `module:Class` of this package."""
CLASSIFIERS = (
    "arcee bloom deepseek_v3 exaone4 falcon gemma gemma2 glm glm4 gpt2 gpt_bigcode gpt_neo gpt_neox gpt_oss helium "
    "llama ministral ministral3 mistral mixtral mpt nemotron phi phi3 qwen2 qwen2_moe qwen3 qwen3_moe qwen3_next "
    "seed_oss smollm3 stablelm starcoder2"
)
"""Decoders that classify sequences and tokens (transformers 5.23 models/auto/modeling_auto.py)."""
DECODERS: Mapping[str, str] = MappingProxyType(
    {
        "seq-cls": f"{CLASSIFIERS} deepseek_v2 gemma3_text gptj hunyuan_v1_dense hunyuan_v1_moe olmo olmo2 olmo3 "
        "openai-gpt opt phimoe qwen3_5_text",
        "token-cls": CLASSIFIERS,
        "qa": "arcee bloom exaone4 falcon gpt2 gpt_neo gpt_neox gptj llama ministral ministral3 mistral mixtral mpt "
        "nemotron opt qwen2 qwen2_moe qwen3 qwen3_moe qwen3_next seed_oss smollm3",
    }
)
"""Task to the causal language models, by `model_type`, that take its head."""
ENCODERS: Mapping[str, str] = MappingProxyType(
    {
        "albert": "albert:Albert",
        "bert": "bert:Bert",
        "camembert": "bert:Bert",
        "deberta": "deberta:Deberta",
        "deberta-v2": "deberta_v2:DebertaV2",
        "distilbert": "distilbert:DistilBert",
        "electra": "electra:Electra",
        "ernie": "ernie:Ernie",
        "modernbert": "modernbert:ModernBert",
        "mpnet": "mpnet:MPNet",
        "nomic_bert": "nomic_bert:NomicBert",
        "roberta": "bert:Bert",
        "xlm-roberta": "bert:Bert",
    }
)
"""Encoders below heads that stand above any of them."""
ENCODER_TASKS = ("token-cls", "qa", "embedding-pairs", "embedding-triplets")
"""Tasks of these heads."""


def find_family(model_type: str, task: str) -> type[Network] | None:
    """The class that simulates this kind of model in this task."""
    name = FAMILIES.get(task, {}).get(model_type)
    if name is not None:
        return _imported(name)
    if model_type in ENCODERS and task in ENCODER_TASKS:
        from vramlint.memory.architectures.encoder_heads import with_encoder_head

        return with_encoder_head(_imported(ENCODERS[model_type]), task)
    if model_type not in DECODERS.get(task, "").split():
        return None
    from vramlint.memory.architectures.decoder_heads import with_head

    return with_head(_imported(FAMILIES["causal-lm"][model_type]), task)


def _imported(name: str) -> type[Network]:
    module, _, attribute = name.partition(":")
    family: type[Network] = getattr(import_module(f"{__name__}.{module}"), attribute)
    return family


def find_stand_in(model_type: str, task: str, config: Mapping[str, object]) -> type[Network] | None:
    """The class that stands in for a causal language model of an unknown type whose config reads like llama's.

    None where the type is known, also if not in this task, and where the config says that it is something else.
    """
    if task != "causal-lm" or is_simulated(model_type):
        return None
    from vramlint.memory.architectures.stand_in import StandIn, resembles_llama

    return StandIn if resembles_llama(config) else None


def is_simulated(model_type: str) -> bool:
    """Whether this kind of model is simulated in some task."""
    return any(model_type in families for families in FAMILIES.values())
