"""Reports with known identifiers: seeded, of own wording, in seven languages."""

from dataclasses import dataclass

import numpy as np

FIRST = (
    "Alma Bruno Carla Dieter Elif Fatima Greta Hugo Ines Jonas Katarzyna Liam Mona Nils Olga "
    "Pavel Quinn Rosa Søren Tariq Uma Vera Wim Xenia Yara Zoltan"
)
LAST = (
    "Abbot Brandt Castillo Dubois Eriksen Ferrari Grünwald Haddad Ivanova Jansen Kowalski "
    "Lefèvre Moreau Nakamura O'Brien Petersen Quispe Rossi Schäfer Tanaka Ulrich Vasquez "
    "Weber Yilmaz Zimmermann McCarthy van-Dijk Okafor Nguyen Lindqvist"
)
STREETS = "Maple Willow Harbor Chestnut Elmwood Juniper Lakeview Sycamore"
TOWNS = "Springfield Riverton Oakdale Fairview Milltown Lakewood"
MONTHS = {
    "en": "January February March April May June July August September October November December",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre"
    " diciembre",
}
CLINICAL = (
    "The breasts are heterogeneously dense.",
    "There is a 2.5 cm mass at 12 o'clock in the left breast.",
    "No suspicious calcifications.",
    "BI-RADS 4A.",
)
# {n} surname, {f} first name, {d} date, {i} number, {p} phone, {a} address, {y} year, {e} e-mail
TEMPLATES = (
    "Dr. {n} was informed by telephone.",
    "The findings were discussed with Dr. {f} {n} on {d}.",
    "Referring physician: {f} {n}, MD",
    "Electronically signed by {f} {n} on {d}.",
    "Dictated by: {f0}. {n} (ext. {x})",
    "Patient: {n}, {f}   MRN: {i}   DOB: {d}",
    "PATIENT NAME: {N}^{F}",
    "Name: {f} {n}",
    "Mrs. {n} was recalled.",
    "Comparison: mammogram of {d}.",
    "Compared with the study from {d}.",
    "Comparison is made to {y}.",
    "Stable since {y}.",
    "Accession number: {i}. NPI: {i}.",
    "Accession #{i}",
    "Call {p} for an appointment.",
    "Tel. {p}, fax {p}.",
    "Lives at {a}.",
    "Address: {a}",
    "Contact: {e}.",
    "This {o}-year-old woman presents for screening.",
    "Gez. Dr. med. {n}, {g}",
    "Frau {n}, geboren am {g}, wohnhaft {s}.",
    "Voraufnahmen vom {g}.",
    "Mme {n}, née le {m}.",
    "Sra. {n}, historia {i}.",
    "Comparado con estudio del {q}.",
    "Dhr. {n} is telefonisch ingelicht op {g}.",
    "Dott. {n}, referto del {d}.",
    "Paciente: {f} {n}, {q}.",
    "Results were called to Dr. {n} at {t} on {d} by {f} {n}.",
    "DR. {F} {N} WAS NOTIFIED ON {d}.",
    "Prof. {n} has reviewed the images.",
    "Exam date: {d}. Medical record number {i}.",
    "Reported by {f0}. {n}, FRCR.",
)


@dataclass(frozen=True)
class Planted:
    """A report and the identifiers in it, each as it stands there."""

    text: str
    identifiers: tuple[str, ...]


def planted_report(seed: int) -> Planted:
    """Return a report of clinical sentences with three to six lines that hold identifiers."""
    rng = np.random.default_rng(seed)
    lines = [str(line) for line in rng.choice(CLINICAL, 3)]
    identifiers: list[str] = []
    for template in rng.choice(TEMPLATES, int(rng.integers(3, 7)), replace=False):
        line = ""
        rest = str(template)
        while "{" in rest:
            before, _, rest = rest.partition("{")
            key, _, rest = rest.partition("}")
            value = _value(key, rng)
            if key not in ("t", "f0"):  # a time of day or an initial alone names nobody
                identifiers.append(value)
            line += before + value
        lines.insert(int(rng.integers(len(lines) + 1)), line + rest)
    return Planted("\n".join(lines), tuple(dict.fromkeys(identifiers)))


def _value(key: str, rng: np.random.Generator) -> str:
    def pick(values: list[str] | str) -> str:
        values = values.split() if isinstance(values, str) else values
        return values[rng.integers(len(values))]

    def digits(count: int) -> str:
        return "".join(str(d) for d in rng.integers(1, 10, count))

    day, month, year = (
        int(rng.integers(1, 29)),
        int(rng.integers(1, 13)),
        int(rng.integers(2001, 2025)),
    )
    name = {lang: MONTHS[lang].split()[month - 1] for lang in MONTHS}
    match key:
        case "n":
            return pick(LAST)
        case "N":
            return pick(LAST).upper()
        case "f":
            return pick(FIRST)
        case "F":
            return pick(FIRST).upper()
        case "f0":
            return pick(FIRST)[0]
        case "i":
            return pick(
                [
                    digits(7),
                    "A" + digits(8),
                    digits(10),
                    f"MG-{digits(6)}",
                    f"{digits(4)}-{digits(4)}",
                ]
            )
        case "x":
            return digits(4)
        case "p":
            return pick(
                [
                    f"({digits(3)}) {digits(3)}-{digits(4)}",
                    f"{digits(3)}-{digits(3)}-{digits(4)}",
                    f"+49 30 {digits(7)}",
                    f"0{digits(3)} {digits(6)}",
                ]
            )
        case "a":
            street = f"{digits(3)} {pick(STREETS)} {pick('Street Avenue Rd Lane')}"
            return f"{street}, {pick(TOWNS)}, OH {digits(5)}"
        case "s":
            street = f"{pick('Linden Garten Mozart')}straße {digits(2)}"
            return f"{street}, {digits(5)} {pick('Ulm Kassel Trier')}"
        case "e":
            return f"{pick(FIRST).lower()}.{pick(LAST).lower()}@mail.example.org"
        case "d":
            return pick(
                [
                    f"{year}-{month:02d}-{day:02d}",
                    f"{month:02d}/{day:02d}/{year}",
                    f"{month}/{day}/{year % 100:02d}",
                    f"{name['en']} {day}, {year}",
                    f"{day} {name['en']} {year}",
                    f"{name['en']} {year}",
                    f"{year}{month:02d}{day:02d}",
                    f"{day:02d}-{name['en'][:3]}-{year}",
                ]
            )
        case "g":
            return pick(
                [
                    f"{day}.{month}.{year}",
                    f"{day:02d}.{month:02d}.{year % 100:02d}",
                    f"{day}. {name['de']} {year}",
                ]
            )
        case "m":
            return f"{day} {name['fr']} {year}"
        case "q":
            return pick([f"{day} de {name['es']} de {year}", f"{day:02d}/{month:02d}/{year}"])
        case "y":
            return str(year)
        case "o":
            return str(rng.integers(90, 104))
        case _:
            return f"{rng.integers(1, 13)}:{rng.integers(10, 60)}"
