"""Languages are recognised, and every table has every list."""

from importlib.resources import files

import pytest
import yaml

from mama.data.reports.language import codes, load_language, pattern, recognise
from mama.errors import ConfigError


def table(code: str) -> dict:
    return yaml.safe_load((files("configs") / "languages" / f"{code}.yaml").read_text("utf-8"))


def test_every_table_has_every_list_of_words():
    assert codes() == ("de", "en", "es", "fr", "it", "nl", "pt")
    english = table("en")
    for code in codes():
        other = table(code)
        assert other.keys() == english.keys()
        for name, value in other.items():
            assert type(value) is type(english[name]), (code, name)
            if isinstance(value, dict) and name != "sections":
                assert value.keys() == english[name].keys(), (code, name)
        assert load_language(code).code == code


@pytest.mark.parametrize("code", [*codes(), "identifiers", "others"])
def test_tables_hold_words(code: str):
    # YAML reads no, on and y as truth values unless they are quoted.
    lists = [value for value in table(code).values() if isinstance(value, list)]
    lists += [v for d in table(code).values() if isinstance(d, dict) for v in d.values()]
    assert all(isinstance(word, str) for words in lists for word in words)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("There is a mass in the left breast.", "en"),
        ("L: fibroadenoma. R: no mass.", "en"),
        ("Kein Herdbefund in der linken Mamma.", "de"),
        ("No se observan nódulos en la mama izquierda.", "es"),
        ("Pas de masse du sein gauche.", "fr"),
        ("Non si rilevano noduli della mammella destra.", "it"),
        ("Geen massa in de linker borst.", "nl"),
        ("Não há nódulos na mama esquerda.", "pt"),
        ("I vänster bröst finns en förtätning som är ny.", "sv"),
        ("W lewej piersi nie ma zmian.", "pl"),
        ("左乳外上象限见一肿块。", "han"),
        ("В левой молочной железе образование.", "cyrillic"),
        ("Venstre mamma: 12 mm tumor. Højre mamma: i.a. BI-RADS 5.", "da"),
        ("Højre mamma: cyste. Venstre mamma: tumor 14 mm, BI-RADS 5.", "da"),
        ("Linkerbors: gespikuleerde massa van 12 mm. Regterbors: geen massa nie.", "af"),
        ("Mama dereita sen achados. Mama esquerda: nódulo de 12 mm.", "gl"),
        ("Mama dreapta: normala. Mama stanga: tumora 12 mm.", "ro"),
        ("Mama dreaptă: normală. Mama stângă: tumoră de 12 mm.", "ro"),
        ("Titi la kushoto lina uvimbe wa 12 mm. Titi la kulia ni kawaida.", ""),
        ("Gjiri i majtë: mase 12 mm. Gjiri i djathtë pa ndryshime.", ""),
        ("Rechte Mamma o.B. Linke Mamma: Herdbefund 14 mm. BI-RADS 5.", "de"),
        ("Mama derecha normal. Mama izquierda: nódulo de 12 mm.", "es"),
        ("Mama direita normal. Mama esquerda: nódulo de 12 mm.", "pt"),
        ("Sein droit : RAS. Sein gauche : opacité.", "fr"),
        ("Xyz qwv.", ""),
        ("", ""),
    ],
)
def test_recognise(text: str, code: str):
    assert recognise(text) == code


def test_a_language_without_a_table_is_refused():
    with pytest.raises(ConfigError, match="no table of this language"):
        load_language("sv")


def test_patterns_match_whole_words():
    words = pattern(["calcif*", "no evidence", "=LB", "?"])
    found = [match[0] for match in words.finditer("Calcifications? no  LB lb xLB no evidence")]
    assert found == ["Calcifications", "?", "LB", "no evidence"]
