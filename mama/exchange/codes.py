"""Errors that a site may report: a code and a fixed sentence, never data, paths or exceptions."""

from enum import StrEnum


class ErrorCode(StrEnum):
    """Error codes of a site's answer; docs/errors.md lists cause and fix of each."""

    BAD_REQUEST = "bad_request"
    PROTOCOL = "protocol_version"
    SITE_FILE = "site_file"
    NO_DATA = "no_data"
    NO_STUDIES = "no_studies"
    EMPTY_REPORTS = "empty_reports"
    BASE_MODEL = "base_model"
    NO_MODEL = "no_model"
    ROSTER = "roster"
    BUDGET = "budget_exhausted"
    LEDGER = "ledger"
    POLICY_STEPS = "policy_steps"
    POLICY_MODEL = "policy_model"
    POLICY_COHORT = "policy_cohort"
    POLICY_PRIVACY = "policy_privacy"
    POLICY_SECURE = "policy_secure"
    POLICY_LICENCE = "policy_licence"
    SECURE_TERMS = "secure_terms"
    POLICY_HOURS = "policy_hours"
    POLICY_UPLOAD = "policy_upload"
    POLICY_MEMORY = "policy_memory"
    NOT_APPROVED = "not_approved"
    REJECTED = "rejected"
    POLICY_PATIENTS = "policy_patients"
    POLICY_BOUNDS = "policy_bounds"
    POLICY_SIZE = "policy_size"
    POLICY_PLAN = "policy_plan"
    POLICY_EVALUATIONS = "policy_evaluations"
    POLICY_WEAKER = "policy_weaker"
    MODEL_STEP = "model_step"
    SECURE_PEERS = "secure_peers"
    SECURE_REPEATED = "secure_repeated"
    TRAINING = "training"
    DISK_FULL = "disk_full"
    INTERNAL = "internal"
    NO_CONTRAST = "no_contrast"
    RECORDS = "records_damaged"
    SENT_RECORD = "sent_record"

    @property
    def sentence(self) -> str:
        """Fixed sentence for people."""
        return SENTENCES[self]


SENTENCES = {
    ErrorCode.BAD_REQUEST: "The task is malformed or does not fit the experiment.",
    ErrorCode.PROTOCOL: "The task uses a protocol version that the site does not support.",
    ErrorCode.SITE_FILE: "The site's configuration file is missing or invalid.",
    ErrorCode.NO_DATA: "The site's dataset is missing or damaged.",
    ErrorCode.NO_STUDIES: "The site has no studies to train on.",
    ErrorCode.EMPTY_REPORTS: "All reports of the site are empty.",
    ErrorCode.BASE_MODEL: "A base model is missing at the site or cannot be built.",
    ErrorCode.NO_MODEL: "The site does not have the model version that this delta is based on.",
    ErrorCode.ROSTER: "The roster is foreign, outdated, or lists the site under another name.",
    ErrorCode.BUDGET: "The privacy budget of the site's patients does not cover the round.",
    ErrorCode.LEDGER: "The site's privacy ledger or patient slots are damaged or outdated.",
    ErrorCode.POLICY_STEPS: "The experiment has more local steps than the site's policy allows.",
    ErrorCode.POLICY_MODEL: "The experiment uses a base model that the site's policy forbids.",
    ErrorCode.POLICY_COHORT: "The quorum or the roster is smaller than the site's policy requires.",
    ErrorCode.POLICY_PRIVACY: "The site's policy requires patient-level differential privacy.",
    ErrorCode.POLICY_SECURE: "The site's policy requires secure aggregation.",
    ErrorCode.POLICY_LICENCE: "The licence of the data requires secure aggregation.",
    ErrorCode.SECURE_TERMS: "The terms of secure aggregation are weaker than the site requires.",
    ErrorCode.POLICY_HOURS: "The site's policy does not allow work at this time of day.",
    ErrorCode.POLICY_UPLOAD: "The update would be larger than the site's policy allows.",
    ErrorCode.POLICY_MEMORY: "The model alone needs more GPU memory than the site's policy allows.",
    ErrorCode.NOT_APPROVED: "The experiment awaits approval by a person at the site.",
    ErrorCode.REJECTED: "A person at the site has rejected the experiment.",
    ErrorCode.POLICY_PATIENTS: "The update covers fewer patients than the site's policy requires.",
    ErrorCode.POLICY_BOUNDS: "A method or value is outside the bounds of the site's policy.",
    ErrorCode.POLICY_SIZE: "The model has more parameters than the site's policy allows.",
    ErrorCode.POLICY_PLAN: "The task exceeds the planned rounds, or the approved runs or steps.",
    ErrorCode.POLICY_EVALUATIONS: "The evaluation quota is spent, or the round already evaluated.",
    ErrorCode.POLICY_WEAKER: "The site's policy became weaker and awaits confirmation at the site.",
    ErrorCode.MODEL_STEP: "The model is not the initial one, or does not follow from the last one.",
    ErrorCode.SECURE_PEERS: "The sites do not all train the same experiment from the same model.",
    ErrorCode.SECURE_REPEATED: "This update was part of an unmasked sum; a second needs approval.",
    ErrorCode.TRAINING: "Training failed: a loss or score was not finite, or memory ran out.",
    ErrorCode.DISK_FULL: "The site's disk is full.",
    ErrorCode.INTERNAL: "An unexpected error occurred at the site; see the site's log.",
    ErrorCode.NO_CONTRAST: "Every batch had only one patient or one report: nothing was learnt.",
    ErrorCode.RECORDS: "A record of the site is damaged; the site's log names the file.",
    ErrorCode.SENT_RECORD: "The site cannot record what it sends, so nothing is sent.",
}
