"""What a site may say of an error: a code and a fixed sentence, never data, paths or exception text."""

from enum import StrEnum


class ErrorCode(StrEnum):
    """Codes a site answers with; docs/errors.md has a cause and a fix for each."""

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
    SECURE_TERMS = "secure_terms"
    POLICY_HOURS = "policy_hours"
    POLICY_UPLOAD = "policy_upload"
    POLICY_MEMORY = "policy_memory"
    NOT_APPROVED = "not_approved"
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
        """The fixed sentence for people."""
        return SENTENCES[self]


SENTENCES = {
    ErrorCode.BAD_REQUEST: "The task is not one that this site understands.",
    ErrorCode.PROTOCOL: "The task is of a protocol version that this site does not speak.",
    ErrorCode.SITE_FILE: "The site's configuration file is missing or invalid.",
    ErrorCode.NO_DATA: "The site's dataset is missing or damaged.",
    ErrorCode.NO_STUDIES: "The site has no study to train on.",
    ErrorCode.EMPTY_REPORTS: "All reports of the site are empty.",
    ErrorCode.BASE_MODEL: "A base model is missing at the site or cannot be built.",
    ErrorCode.NO_MODEL: "The site does not hold the model that the change it was sent is to.",
    ErrorCode.ROSTER: "The roster is not the federation's, is older than one seen, or has the site by another name.",
    ErrorCode.BUDGET: "The privacy budget of the site's patients does not allow the round.",
    ErrorCode.LEDGER: "The site's privacy ledger or roster is damaged, or older than it was.",
    ErrorCode.POLICY_STEPS: "The experiment asks for more local steps than the site's policy allows.",
    ErrorCode.POLICY_MODEL: "The experiment uses a base model that the site's policy does not allow.",
    ErrorCode.POLICY_COHORT: "The experiment's quorum or the roster is smaller than the site's policy demands.",
    ErrorCode.POLICY_PRIVACY: "The site's policy demands patient-level differential privacy.",
    ErrorCode.POLICY_SECURE: "The site's policy demands secure aggregation.",
    ErrorCode.SECURE_TERMS: "The site demands more sites, a higher threshold or finer values for secure aggregation.",
    ErrorCode.POLICY_HOURS: "The site's policy does not allow work at this hour.",
    ErrorCode.POLICY_UPLOAD: "The update would be larger than the site's policy allows.",
    ErrorCode.POLICY_MEMORY: "The model alone takes more GPU memory than the site's policy allows.",
    ErrorCode.NOT_APPROVED: "The experiment waits for the approval of a person at the site.",
    ErrorCode.POLICY_PATIENTS: "The update would rest on fewer patients than the site's policy demands.",
    ErrorCode.POLICY_BOUNDS: "The experiment asks for a method or a value outside the bounds of the site's policy.",
    ErrorCode.POLICY_SIZE: "The model has more parameters than the site's policy allows.",
    ErrorCode.POLICY_PLAN: "The task is beyond the planned rounds, or the runs and steps that the site approved.",
    ErrorCode.POLICY_EVALUATIONS: "The site's quota of evaluations is used up, or the round was evaluated before.",
    ErrorCode.POLICY_WEAKER: "The site's policy became weaker and waits for a person's word at the site.",
    ErrorCode.MODEL_STEP: "The model is not the experiment's first one, or does not follow from the last one.",
    ErrorCode.SECURE_PEERS: "The sites of the round do not all train the same experiment from the same model.",
    ErrorCode.SECURE_REPEATED: "A sum with this update was unmasked before; a second one needs a person's approval.",
    ErrorCode.TRAINING: "Training failed: a loss or score was not finite, or a step did not fit the device's memory.",
    ErrorCode.DISK_FULL: "The site's disk is full.",
    ErrorCode.INTERNAL: "An unexpected error happened at the site; its own log has the details.",
    ErrorCode.NO_CONTRAST: "Every batch of the round was of one patient or one report, so nothing was learnt.",
    ErrorCode.RECORDS: "One of the site's records is damaged; its own log names the file.",
    ErrorCode.SENT_RECORD: "The site's own record of what it sent cannot be written, so nothing is sent.",
}
