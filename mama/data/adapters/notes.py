"""Remarks of an ingest on the source: each has a code, and a place that names no patient."""

from typing import NamedTuple


class Note(NamedTuple):
    """One remark.

    Attributes:
        code: a key of `NOTES`.
        where: a path relative to the source, or a line of a table.
        detail: the values that differ, or the other file.
    """

    code: str
    where: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.detail}" if self.detail else self.where


# What each remark means, and what to do about it.
NOTES: dict[str, tuple[str, str]] = {
    "report-without-study": (
        "a row of the report table matches no study",
        "Compare the study or accession number with the images' headers",
    ),
    "several-patients": (
        "a study has several PatientIDs, and is left out",
        "Correct it in the archive",
    ),
    "no-patient": (
        "a study has no PatientID, or a word in its place, and is left out",
        "Export it with a PatientID",
    ),
    "image-uid-shared": (
        "images of several patients or studies have one SOPInstanceUID; all are used",
        "Correct it in the archive: one of them may be filed under a wrong patient",
    ),
    "several-birth-dates": (
        "one PatientID has several dates of birth",
        "Two patients may share the id; see data.ingest.identity",
    ),
    "side-conflict": (
        "header fields name different sides",
        "Correct it in the archive; data.ingest.conflicts decides until then",
    ),
    "chest-wall-conflict": (
        "the side of the header and the side of the chest wall disagree",
        "Look at the image; data.ingest.conflicts decides",
    ),
    "view-conflict": (
        "the view's code and its text disagree, and the code was used",
        "Correct it in the archive",
    ),
    "burned-in": (
        "the header says that text is burned into the image",
        "Look at the image: all but the breast is black; if a name lies on it, remove the file",
    ),
    "no-side": ("no side is stated, so that the whole report is the image's", "See docs/data.md"),
    "no-view": ("no view is stated", "Nothing: the view is a label only"),
    "window-ignored": ("an unusable window was passed over", "Nothing, if the image looks right"),
    "lut-ignored": (
        "an unusable LUT or rescale slope was passed over",
        "Nothing, if the image looks right",
    ),
    "padding-ignored": (
        "the header's padding values cover the whole image, and were passed over",
        "Nothing, if the image looks right",
    ),
    "archive": ("an archive file was not looked into", "Unpack it into the folder"),
    "source-shrank": (
        "studies or images of the last ingest are no longer in the source",
        "Check that the disk or share is mounted; --prune removes them from the dataset",
    ),
    "report-refused": (
        "the report holds names, numbers or dates, and is left out",
        "Set data.ingest.reports.identifiers to redact, or export without them",
    ),
    "language-unknown": (
        "the report's language has no table, so that its sentences have no side",
        "Set data.ingest.reports.language, or add a table to configs/languages",
    ),
    "report-birads-disagree": (
        "the report states two BI-RADS categories of one breast or of the exam",
        "Read the report; the last category counts",
    ),
    "report-birads-below-breast": (
        "the exam's BI-RADS category is of less concern than that of a breast",
        "Read the report",
    ),
    "report-birads-1-with-finding": (
        "the report states BI-RADS 1 beside a mass or distortion",
        "Read the report",
    ),
    "report-density-disagree": (
        "the report states two densities",
        "Read the report; the last density counts",
    ),
    "report-density-table": (
        "the density of the report and that of the table differ",
        "Compare both; the table counts",
    ),
    "report-birads-table": (
        "the BI-RADS category of the report and the table's flag disagree on a breast",
        "Compare both; the table counts",
    ),
    "patient-in-two-splits": (
        "a patient has studies in both splits",
        "Assign all studies of a patient to the same split",
    ),
    "same-picture": (
        "two images have the same pixels",
        "Remove the copy; under two patients, correct the PatientID",
    ),
    "similar-picture": (
        "images of two patients look the same",
        "Look at both: one exam may be filed under two PatientIDs",
    ),
    "same-report": (
        "one report with a measurement belongs to several patients",
        "Compare the numbers of the report table with the archive",
    ),
    "study-without-report": (
        "no row of the report table matches the study",
        "Compare its study and accession number with the table",
    ),
    "report-key-ambiguous": (
        "the row of the report table matches several studies, so none got its report",
        "Name the StudyInstanceUID in the row",
    ),
    "report-key-contradiction": (
        "keys of the row contradict each other, so that no study got its report",
        "Compare the row's study, accession, patient and date with the images' headers",
    ),
    "report-key-scientific": (
        "study or accession numbers in scientific notation, which a spreadsheet made of digits",
        "Export the column as text",
    ),
    "report-key-zeros": (
        "study, accession or patient numbers match only without their leading zeros",
        "Export the column as text, so that no zero is lost",
    ),
    "report-key-case": (
        "study, accession or patient numbers match only if capitals are ignored",
        "Export them as the archive writes them",
    ),
    "report-key-signs": (
        "study, accession or patient numbers match only without signs that a program added",
        "Export the column as text, without a quotation mark, an equals sign or .0",
    ),
    "report-empty": (
        "the report is a word for nothing, such as NULL",
        "Export the report again, if there is one",
    ),
    "column-unknown": (
        "a column of the table is passed over",
        "Map it in reports.columns if it is needed",
    ),
    "table-encoding": (
        "text without a byte order mark that is not UTF-8; Windows-1252 is assumed",
        "Save the table as UTF-8",
    ),
    "validation-as-training": (
        "patients of a validation part count as training",
        "Write train or test where that is wrong",
    ),
    "row-without-image": (
        "rows of a table name images that are not there",
        "Download the images, or ignore this for a part of the set",
    ),
    "image-without-row": (
        "images that no row of a table names",
        "Compare the folder with the table",
    ),
    "special-images": (
        "images of special kinds are left out",
        "List their kind in `keep` to use them",
    ),
    "region-images": ("crops, masks and screen shots are left out", "Nothing to do"),
    "same-film": (
        "a film is in two parts of the set; one of its files is used",
        "Nothing to do",
    ),
    "part-conflict": (
        "patients are in the training and in the test part of the set; they count as test",
        "Nothing to do",
    ),
    "finding-without-side": (
        "a finding names no breast and is not used",
        "Add the side to the table",
    ),
    "box-invalid": (
        "a box of a finding has no area or no numbers and is not used",
        "Correct it in the table",
    ),
    "box-outside": (
        "a finding's box lies outside the crop of the breast and is not used",
        "Compare the image with the box; nothing else depends on boxes",
    ),
    "code-unknown": (
        "codes of descriptors that the set does not publish, such as those a spreadsheet changed",
        "Use the table as published, not as saved by a spreadsheet",
    ),
    "report-unreadable": (
        "a report that cannot be read, or fits several studies",
        "Check the file",
    ),
}
