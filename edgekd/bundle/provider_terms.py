"""What well-known providers of models say about training another model on their outputs.

A log of answers names the model that gave them, and `of_model` finds the provider's terms by that
name. Each entry says where its terms are published, when they were looked up, and what the entry
rests on. Some documents could only be read in quotations, and some not at all: such an entry can
forbid a use, but never allows one. This is a reading of texts and no legal advice. Terms change:
read the document before you rely on an entry.

Where terms forbid "competing" models, an entry allows non-commercial use alone. Whether a small
image classifier competes with a general model is a question for a lawyer. Who has the answer in
writing says so with the setting `teacher.terms`.
"""

from __future__ import annotations

import dataclasses
import enum
import re


class OutputUse(enum.StrEnum):
    """What a model that was trained on a teacher's outputs may be used for."""

    ANY = "any"
    NON_COMMERCIAL = "non-commercial"
    NO_TRAINING = "no-training"
    UNKNOWN = "not stated"


class Basis(enum.StrEnum):
    """What an entry of the table rests on."""

    PAGE = "a copy of the document"
    QUOTED = "quotations of the document by others"
    UNVERIFIED = "not verified: the document could not be read"


@dataclasses.dataclass(frozen=True)
class ProviderTerms:
    """One provider's terms for the outputs of some of its models.

    `models`: a regular expression that is searched in a model's name, in lower case with "-" for
    "_" and for a space. `terms`: the document, and `source` its URL. `read`: when it was looked up,
    ISO 8601. `clause`: what it says, in EdgeKD's words. `name_prefix`: how the name of a model must
    begin that was trained on the outputs.
    """

    provider: str
    models: str
    terms: str
    source: str
    basis: Basis
    use: OutputUse
    clause: str
    read: str = "2026-11-28"
    name_prefix: str = ""

    @property
    def cited(self) -> str:
        """The document's address, the date, and what the entry rests on."""
        return f"{self.source}, looked up {self.read} ({self.basis})"


_START = r"(?:^|[^a-z0-9])"  # a model's name starts here: "openai/gpt-4o", "us.anthropic.claude"
_COMPETE = "outputs may not be used to develop models that compete with the provider's"
_ATTRIBUTION = "outputs may train other models"

# The first entry that matches counts, so open models stand before the service of their provider.
TABLE = (
    ProviderTerms(
        "OpenAI, gpt-oss",
        r"gpt-oss",
        "Apache-2.0",
        "https://huggingface.co/openai/gpt-oss-120b",
        Basis.QUOTED,
        OutputUse.ANY,
        "an open licence that says nothing about outputs",
    ),
    ProviderTerms(
        "OpenAI, CLIP and GPT-2",
        r"clip-vit|clip.*openai|openai.*clip|" + _START + r"gpt-?2(?![0-9.])",
        "MIT",
        "https://github.com/openai/CLIP/blob/main/LICENSE",
        Basis.UNVERIFIED,
        OutputUse.UNKNOWN,
        "an open licence, to be checked for the weights that were used",
    ),
    ProviderTerms(
        "Microsoft Azure OpenAI",
        r"azure.*(gpt|openai|(?<![a-z0-9])o[134](?![a-z0-9]))",
        "Microsoft Product Terms, Azure OpenAI Service",
        "https://www.microsoft.com/licensing/terms/productoffering/MicrosoftAzure/MCA",
        Basis.UNVERIFIED,
        OutputUse.NON_COMMERCIAL,
        "output may not be used to create a similar or competing product or service",
    ),
    ProviderTerms(
        "OpenAI",
        _START + r"(gpt-?[345]|gpt-image|chatgpt|o[134](-|$)|dall-?e|openai)",
        "OpenAI Services Agreement",
        "https://openai.com/policies/services-agreement/",
        Basis.QUOTED,
        OutputUse.NON_COMMERCIAL,
        "outputs may not be used to develop competing models; a classifier is excepted as long as "
        "it is neither distributed nor sold to third parties",
    ),
    ProviderTerms(
        "Anthropic",
        _START + r"(claude|anthropic)",
        "Anthropic Commercial Terms of Service, D.4",
        "https://www.anthropic.com/legal/commercial-terms",
        Basis.QUOTED,
        OutputUse.NON_COMMERCIAL,
        "the services may not be used to train competing models without Anthropic's approval",
    ),
    ProviderTerms(
        "Google, Gemma 4",
        _START + r"gemma-?4",
        "Apache-2.0",
        "https://ai.google.dev/gemma/terms",
        Basis.QUOTED,
        OutputUse.ANY,
        "an open licence that says nothing about outputs",
    ),
    ProviderTerms(
        "Google, Gemma up to version 3",
        _START + r"(pali|code|shield|med|t5)?gemma",
        "Gemma Terms of Use",
        "https://ai.google.dev/gemma/terms",
        Basis.QUOTED,
        OutputUse.ANY,
        f"{_ATTRIBUTION}, which then are derivatives under the same terms and its list of "
        "prohibited uses",
    ),
    ProviderTerms(
        "Google Gemini API",
        _START + r"(gemini|imagen)",
        "Gemini API Additional Terms of Service, Use Restrictions",
        "https://ai.google.dev/gemini-api/terms",
        Basis.PAGE,
        OutputUse.NON_COMMERCIAL,
        "the services may not be used to develop models that compete with them, or in clinical "
        "practice",
    ),
    ProviderTerms(
        "Meta, Llama 4",
        _START + r"(meta-)?llama-?4",
        "Llama 4 Community License Agreement, 1.b.i",
        "https://github.com/meta-llama/llama-models/blob/main/models/llama4/LICENSE",
        Basis.PAGE,
        OutputUse.ANY,
        f'{_ATTRIBUTION}, whose names begin with "Llama" where they are distributed; above 700 '
        "million users Meta's leave is needed",
        name_prefix="Llama",
    ),
    ProviderTerms(
        "Meta, Llama 3.1 to 3.3",
        _START + r"(meta-)?llama-?3[.-][1-9](?!\d*b)",
        "Llama 3.1 Community License Agreement, 1.b.i",
        "https://github.com/meta-llama/llama-models/blob/main/models/llama3_1/LICENSE",
        Basis.PAGE,
        OutputUse.ANY,
        f'{_ATTRIBUTION}, whose names begin with "Llama" where they are distributed; above 700 '
        "million users Meta's leave is needed",
        name_prefix="Llama",
    ),
    ProviderTerms(
        "Meta, Llama 2 and 3",
        _START + r"(meta-)?(code-?)?llama-?[23]",
        "Meta Llama 3 Community License Agreement, 1.b.v",
        "https://www.llama.com/llama3/license/",
        Basis.QUOTED,
        OutputUse.NO_TRAINING,
        "outputs may not be used to improve any other large language model",
    ),
    ProviderTerms(
        "Mistral AI, open weights",
        _START + r"(pixtral-12b|mistral-7b|mistral-nemo|mixtral|mistral-small-3)",
        "Apache-2.0",
        "https://docs.mistral.ai/getting-started/models/models_overview/",
        Basis.UNVERIFIED,
        OutputUse.UNKNOWN,
        "an open licence for the weights; the hosted service has terms of its own",
    ),
    ProviderTerms(
        "Mistral AI",
        _START + r"(mistral|ministral|magistral|pixtral|codestral|devstral)",
        "Mistral AI Commercial Terms of Service",
        "https://legal.mistral.ai/terms/commercial-terms-of-service",
        Basis.QUOTED,
        OutputUse.NON_COMMERCIAL,
        "outputs may not be used to work out how the models work, or images to train competing "
        "products; research licences of weights forbid commercial use",
    ),
    ProviderTerms(
        "Cohere",
        _START + r"(command(-|$)|cohere|(c4ai-)?aya(-|$)|embed-v)",
        "Cohere SaaS Agreement; CC-BY-NC-4.0 for open weights",
        "https://cohere.com/saas-agreement",
        Basis.UNVERIFIED,
        OutputUse.NON_COMMERCIAL,
        "the service may not be used for competing products; open weights are non-commercial",
    ),
    ProviderTerms(
        "Amazon Nova, Titan and Rekognition",
        _START + r"(amazon|nova-(micro|lite|pro|premier|canvas|2)|titan|rekognition)",
        "AWS Service Terms, Amazon Bedrock",
        "https://aws.amazon.com/service-terms/",
        Basis.QUOTED,
        OutputUse.NON_COMMERCIAL,
        "outputs may not be used to develop large models that compete with services of AWS",
    ),
    ProviderTerms(
        "DeepSeek",
        _START + r"deepseek",
        "MIT; DeepSeek-R1, 7. License",
        "https://github.com/deepseek-ai/DeepSeek-R1",
        Basis.PAGE,
        OutputUse.ANY,
        "commercial use and distillation into other models are allowed",
    ),
    ProviderTerms(
        "Alibaba Qwen, research licence",
        _START + r"(qwen-?2\.5-(vl-)?3b|qwen-image)",
        "Qwen Research License Agreement",
        "https://huggingface.co/Qwen/Qwen2.5-VL-3B-Instruct/blob/main/LICENSE",
        Basis.QUOTED,
        OutputUse.NON_COMMERCIAL,
        "research and evaluation only",
    ),
    ProviderTerms(
        "Alibaba Qwen, Qwen licence",
        _START + r"qwen-?2\.5-(vl-)?72b",
        "Qwen License Agreement",
        "https://huggingface.co/Qwen/Qwen2.5-72B-Instruct/blob/main/LICENSE",
        Basis.QUOTED,
        OutputUse.ANY,
        f'{_ATTRIBUTION}, which then display "Built with Qwen" or "Improved using Qwen"; above 100 '
        "million users Alibaba's leave is needed",
    ),
    ProviderTerms(
        "Alibaba Qwen, open weights",
        _START + r"(qwen-?(2|2\.5|3)[.-]|qwq|qvq)(?!.*(max|plus|turbo|flash))",
        "Apache-2.0",
        "https://github.com/QwenLM",
        Basis.QUOTED,
        OutputUse.ANY,
        "an open licence that says nothing about outputs",
    ),
    ProviderTerms(
        "xAI",
        _START + r"(grok|xai)",
        "xAI Terms of Service",
        "https://x.ai/legal/terms-of-service-enterprise",
        Basis.QUOTED,
        OutputUse.NON_COMMERCIAL,
        f"{_COMPETE}, and model data may not be distilled",
    ),
)


def of_model(name: str) -> ProviderTerms | None:
    """The terms of the provider of a model, found by the model's name; None for an unknown model.

    `name`: as a log writes it, such as "gpt-4o-2024-08-06" or "us.anthropic.claude-3-haiku".
    """
    plain = re.sub(r"[_\s]+", "-", name.strip().lower())
    return next((row for row in TABLE if re.search(row.models, plain)), None)
