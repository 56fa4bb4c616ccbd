"""BI-RADS, density and findings of single sentences, with negation and uncertainty."""

import pytest

from mama.data.reports.categories.birads import birads, most_concerning
from mama.data.reports.categories.density import density
from mama.data.reports.findings import polarities, stated_terms, terms
from mama.data.reports.language import load_language
from mama.data.reports.sections import read_headings


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("BI-RADS 2.", ["2"]),
        ("BIRADS: 4a", ["4A"]),
        ("BI-RADS® Category 4 B (moderate suspicion)", ["4B"]),
        ("BI-RADS IV", ["4"]),
        ("BI-RADS assessment category 0: incomplete", ["0"]),
        ("ACR BI-RADS score of 5", ["5"]),
        ("Category 3: probably benign", ["3"]),
        ("Previously BI-RADS 3.", []),
        ("BI-RADS density category 3", []),
        ("BI-RADS 5th edition", []),
        ("BI-RADS 7", []),
        ("BI-RADS: follow-up in 6 months", []),
        ("Mass of 4 cm, category unknown", []),
        ("BI-RADS4.", ["4"]),
        ("BIRADS4B", ["4B"]),
        ("BI-RADS IVb", ["4B"]),
        ("BI-RADS 4 b", ["4B"]),
        ("BI-RADS 4 a mass", ["4"]),
        ("Not BI-RADS 4.", []),
        ("No BI-RADS 4 finding.", []),
        ("No evidence of malignancy, BI-RADS 1.", ["1"]),
        ("BI-RADS 3 was downgraded to BI-RADS 2.", ["2"]),
        ("Upgraded from BI-RADS 3 to 4A.", ["4A"]),
        ("Previously BI-RADS 3, now BI-RADS 2.", ["2"]),
        ("Stable since the previous exam, BI-RADS 2.", ["2"]),
        ("Not previously seen mass, BI-RADS 4.", ["4"]),
        ("ACR 4b", ["4B"]),
        ("ACR 4", []),
        ("If she declines the biopsy, BI-RADS 3 would apply.", []),
        ("BI-RADS 4, unless the outside films show it unchanged.", ["4"]),
    ],
)
def test_birads(text: str, values: list[str]):
    assert birads(text, load_language("en")) == values


def test_the_letters_acr_alone_mean_density_or_assessment_by_language():
    assert birads("ACR 4 à gauche", load_language("fr")) == ["4"]
    assert birads("ACR 3", load_language("de")) == []
    assert density("Brustdichte ACR 3", load_language("de")) == "C"
    assert density("sein gauche ACR 3", load_language("fr")) is None
    assert birads("BI-RADS 4 a destra", load_language("it")) == ["4"]
    assert birads("ACR4b", load_language("fr")) == ["4B"]
    assert birads("BI-RADS(R) ACR 2", load_language("pt")) == ["2"]
    assert density("BI-RADS(R) ACR 2", load_language("pt")) is None
    assert density("Classification ACR : D 2, G 5.", load_language("fr")) is None


@pytest.mark.parametrize(
    ("code", "text", "value"),
    [
        ("de", "Drüsengewebe 25 bis 50 %.", "B"),
        ("es", "Patrón tipo c, densidad alta.", "C"),
        ("fr", "Densité mammaire de 75 à 100 %.", "D"),
        ("nl", "Klierweefsel < 25 %.", "A"),
    ],
)
def test_density_in_other_languages(code: str, text: str, value: str):
    assert density(text, load_language(code)) == value


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("de", "Falls keine Biopsie gewünscht wird, BI-RADS 3."),
        ("es", "Si la paciente rechaza la biopsia, BI-RADS 3."),
        ("fr", "En cas de refus de la biopsie, ACR 3."),
        ("it", "In caso di rifiuto della biopsia, BI-RADS 3."),
        ("nl", "Indien geen biopsie volgt, BI-RADS 3."),
        ("pt", "Caso a paciente recuse a biópsia, BI-RADS 3."),
    ],
)
def test_a_category_on_a_condition_does_not_count(code: str, text: str):
    assert birads(text, load_language(code)) == []


def test_a_number_in_a_list_is_no_density():
    assert density("(2) a lymph node", load_language("en"), expected=True) is None
    assert density("(2)", load_language("en"), expected=True) == "B"


def test_a_bare_number_counts_under_its_heading():
    assert birads("2 - Benign", load_language("en"), expected=True) == ["2"]
    assert birads("2 - Benign", load_language("en")) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("The breasts are heterogeneously dense.", "C"),
        ("ACR d", "D"),
        ("Density: B", "B"),
        ("Breast density category 1.", "A"),
        ("Composition c.", "C"),
        ("There is a high-density mass.", None),
        ("A focal density A 5 mm mass", None),
        ("Density of 2 mm", None),
        ("The breasts are composed almost entirely of fat.", "A"),
        ("No longer heterogeneously dense; now scattered fibroglandular densities.", "B"),
        ("No evidence of extremely dense tissue; the breasts are fatty.", "A"),
        ("Formerly extremely dense, currently heterogeneously dense.", "C"),
        ("Extremely dense tissue is not seen.", None),
        ("No mass in the heterogeneously dense tissue.", "C"),
        ("No change in the heterogeneously dense tissue.", "C"),
        ("Density has decreased from C to B.", "B"),
        ("Dense and heterogeneous tissue.", "C"),
        ("Glandular tissue of 51-75 %.", "C"),
        ("Parenchyma (> 75 %).", "D"),
        ("Glandularity under 25: 0 to 25 percent", "A"),
        ("Tissue in 10-20 % of the breast.", None),
        ("Type II parenchyma.", "B"),
        ("Tissue of low density (a).", "A"),
        ("A mass in the dense outer tissue near the scar (b).", None),
        ("Category d density.", "D"),
        ("ACR BI-RADS: 3", None),
        ("Grade 2 mass in dense tissue.", None),
    ],
)
def test_density(text: str, value: str | None):
    assert density(text, load_language("en")) == value


FINDINGS = """
en | There is a mass with calcifications. | mass present, calcification present
en | No mass, asymmetry or distortion. | mass absent, asymmetry absent, distortion absent
en | No mass, but calcifications are seen. | mass absent, calcification present
en | A mass cannot be excluded. | mass possible
en | Possible distortion. | distortion possible
en | No change in the mass. | mass present
en | The mass has resolved. | mass absent
en | Calcifications: None. | calcification absent
en | Masses: oval, 9 mm. | mass present
en | Calcifications: No suspicious calcifications. | calcification absent
en | There isn't any mass. | mass absent
en | Left mass ruled out. | mass absent
en | A mass cannot be ruled out. | mass possible
en | Dense tissue may obscure small masses. | mass absent
en | Masses and calcifications are not seen. | mass absent, calcification absent
de | Kein Herd, keine Architekturstörung. | mass absent, distortion absent
de | Herd nicht abgrenzbar. | mass absent
es | No se observan nódulos. | mass absent
fr | Pas de masse mais microcalcifications. | mass absent, calcification present
it | Non si rilevano noduli. | mass absent
nl | Geen massa; wel microcalcificaties. | mass absent, calcification present
pt | Nódulo irregular, sem calcificações. | mass present, calcification absent
"""


@pytest.mark.parametrize("row", FINDINGS.strip().split("\n"))
def test_findings(row: str):
    code, text, stated = row.split(" | ")
    language = load_language(code)
    found = polarities(stated_terms(text, read_headings(text, language, False).body, language))
    assert found == dict(entry.split() for entry in stated.split(", "))
    assert all(text[t.start : t.end].lower() == t.word for t in terms(text, language))


def test_the_category_of_an_exam():
    assert most_concerning(["2", "0", "4A"]) == "4A"
    assert most_concerning(["6", "0"]) == "0"
    assert most_concerning([]) is None
