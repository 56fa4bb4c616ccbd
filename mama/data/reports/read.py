"""Reports: sentences with their breast and section, BI-RADS, density, findings and conflicts."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mama.data.reports.categories.birads import birads, most_concerning
from mama.data.reports.categories.density import density
from mama.data.reports.clauses import clauses
from mama.data.reports.conflicts import Stated, conflicts
from mama.data.reports.findings import KINDS, negates, polarities, stated_terms, terms
from mama.data.reports.formats import plain
from mama.data.reports.language import Language
from mama.data.reports.mentions import Side, mentions, sides_of
from mama.data.reports.sections import (
    DROPPED,
    ORDER,
    Headed,
    Title,
    is_administrative,
    is_exam_header,
    read_headings,
)
from mama.data.reports.sides import Clause, Discourse
from mama.data.reports.split import split
from mama.data.studies import Laterality, Sentence

EARLIER = ("comparison", "indication")  # sections that speak of other exams
_BRIEF = DROPPED | set(EARLIER)  # sections of one paragraph, which findings may follow
_OPENING = 10  # characters before the side that opens a sentence: "In the left"
_BREASTS: tuple[Laterality, ...] = ("L", "R")


@dataclass(frozen=True)
class ReadReport:
    """All that a report states.

    `sentences` begin with findings and impression. `language` is the code of the table; None
    without one, and then no sentence has a side. `findings` and `possible` are kinds of findings
    by breast that are stated or suspected; `birads` is by breast as far as stated, `study_birads`
    that of the exam. `conflicts` are codes of `mama.data.reports.conflicts`. `dropped` are
    sentences about technique or about the report itself.
    """

    sentences: tuple[Sentence, ...]
    language: str | None
    birads: dict[Laterality, str] = field(default_factory=dict)
    study_birads: str | None = None
    density: str | None = None
    findings: dict[Laterality, tuple[str, ...]] = field(default_factory=dict)
    possible: dict[Laterality, tuple[str, ...]] = field(default_factory=dict)
    conflicts: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


@dataclass
class _Parts:
    """Clauses of a report in its order, before their sides are known."""

    clauses: list[Clause] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    exams: list[str] = field(default_factory=list)
    titles: list[Title] = field(default_factory=list)
    nested: bool = False


def read_report(text: str, language: Language | None) -> ReadReport:
    """Read a report's text, RTF, HTML or HL7 message; arguments as those of `read_plain`."""
    return read_plain(plain(text), language)


def read_plain(text: str, language: Language | None) -> ReadReport:
    """Read the plain text of a report.

    Args:
        text: text as `formats.plain` returns it; mark-up is not looked for again.
        language: table of its language; None if there is none.
    """
    return read_parts({None: text}, language)


def read_parts(texts: Mapping[Laterality | None, str], language: Language | None) -> ReadReport:
    """Read a report of several texts, each about one breast as its row says, or about the exam.

    Args:
        texts: plain texts by breast; in that of one breast only words can lead to the other.
        language: table of their language; None if there is none.
    """
    if language is None:
        return ReadReport(
            tuple(
                Sentence(text=sentence, side=side, section=None)
                for side, text in texts.items()
                for part in split(text, None)
                for sentence in part.sentences
            ),
            None,
        )
    stated = Stated()
    sentences: list[Sentence] = []
    dropped: list[str] = []
    for breast, text in texts.items():
        parts = _parts(text, language)
        exam_side = breast or _exam_side(parts.exams, language)
        discourse = Discourse(language, exam_side, _held(parts))
        stated.chain = -1
        for clause, within in zip(parts.clauses, _within(parts.clauses, language), strict=True):
            side = discourse.side(clause, within) or breast
            sentences.append(Sentence(text=clause.text, side=side, section=clause.section))
            _note(clause, side, stated, language)
        dropped += parts.dropped
    rank = {section: place for place, section in enumerate(ORDER)}
    sentences.sort(key=lambda sentence: rank.get(sentence.section or "findings", 0))
    breasts = {side: value for side in _BREASTS if (value := _category(stated, side))}
    if len(breasts) == 1:
        stated.exam[:0] = stated.implied  # of the exam as much as of its only breast in question
    exam = stated.exam[-1] if stated.exam else most_concerning([*breasts.values()])
    return ReadReport(
        sentences=tuple(sentences),
        language=language.code,
        birads=breasts,
        study_birads=exam,
        density=stated.density[-1] if stated.density else None,
        findings=_kinds(stated, "present"),
        possible=_kinds(stated, "possible"),
        conflicts=conflicts(stated),
        dropped=tuple(dropped),
    )


def _parts(text: str, language: Language) -> _Parts:
    """Cut a text to clauses with section and headings, and set aside what is not about a breast."""
    parts = _Parts()
    section: str | None = None
    opened = -1  # paragraph in which the section began
    waiting: list[str] = []  # headings that stand alone go with the next sentence
    titles: list[Title] = []
    for number, paragraph in enumerate(split(text, language)):
        if paragraph.apart and section in _BRIEF and opened < number:
            section = None
        for sentence in paragraph.sentences:
            alone = len(paragraph.sentences) == 1
            # In running text with a stop: "Right unilateral mammogram."
            named = sentence if alone else sentence.removesuffix(".")
            if not waiting and named and is_exam_header(named, language):
                parts.dropped.append(sentence)
                parts.exams.append(sentence)
                continue
            for clause in clauses(sentence, language):
                headed = read_headings(clause, language, alone)
                parts.titles += headed.titles
                ends = [
                    t for t in headed.titles if t.section and not (t.section in DROPPED and t.side)
                ]
                if ends and ends[-1].section != "administrative":
                    section, opened = ends[-1].section, number
                    parts.nested |= bool(titles and titles[-1].side and not titles[-1].section)
                elif section in (*_BRIEF, "composition") and (
                    (opened < number and any(title.side for title in headed.titles))
                    or (opened < number and _states(headed.body or clause, language))
                    or (section in _BRIEF and density(headed.body or clause, language) is not None)
                    or (
                        section == "composition"
                        and _leaves_composition(clause, headed, opened < number, language)
                    )
                ):
                    section = None  # findings without a heading of their own
                titles += headed.titles
                if not headed.body:
                    opened = number + 1 if opened == number else opened
                    waiting.append(clause)
                    continue
                joined = " ".join([*waiting, clause])
                administrative = bool(ends and ends[-1].section == "administrative")
                if section in DROPPED or administrative or is_administrative(clause, language):
                    parts.dropped.append(joined)
                    if section == "exam":
                        parts.exams.append(joined)
                    kept = [t for t in titles if t.side and not t.section]
                else:
                    parts.clauses.append(
                        Clause(joined, tuple(titles), section, number, headed.body)
                    )
                    kept = []
                waiting, titles = [], kept
    if waiting:
        parts.clauses.append(Clause(" ".join(waiting), tuple(titles), section, -1, ""))
    return parts


def _states(text: str, language: Language) -> bool:
    """Return whether a sentence states a finding or a density."""
    found = [term for term in terms(text, language) if term.kind != "other"]
    return bool(found) or density(text, language) is not None or negates(text, language)


def _leaves_composition(clause: str, headed: Headed, later: bool, language: Language) -> bool:
    """Return whether a sentence is not of the section on the composition any more.

    It is of a later paragraph, states a finding, or is of a side, and gives no density.
    """
    text = headed.body or clause
    if density(text, language, expected=True) is not None:
        return False
    sided = later or any(title.side for title in headed.titles)
    lesion = any(term.kind != "other" for term in terms(text, language))
    return sided or lesion or language["single"].match(text) is not None


def _exam_side(exams: list[str], language: Language) -> Side | None:
    """Return the only breast of the exam; None if both, or if its header does not say."""
    if any(language["both"].search(text) for text in exams):
        return None
    sides = {sides_of(text, language) for text in exams} - {None}
    return sides.pop() if len(sides) == 1 and "both" not in sides else None


def _within(parts: list[Clause], language: Language) -> list[Side | None]:
    """Return the breast of the part of a paragraph in which each clause stands, None without one.

    A part opens with a side and ends where the other side opens one: "On the right, a mass. No
    calcifications. On the left, nothing."
    """
    opened: list[tuple[Side, int] | None] = []
    for clause in parts:
        named = mentions(clause.body, language)
        side = named[0].side if len({mention.side for mention in named}) == 1 else None
        opens = side in _BREASTS and named[0].start <= _OPENING
        opened.append((side, clause.paragraph) if side and opens else None)
    before, after = list(opened), list(opened)
    for place in range(1, len(parts)):
        before[place] = before[place] or before[place - 1]
        after[-1 - place] = after[-1 - place] or after[-place]
    found: list[Side | None] = []
    for clause, first, last in zip(parts, before, [*after, None][1:], strict=True):
        whole = first and last and first[1] == last[1] == clause.paragraph
        found.append(first[0] if first and last and whole and first[0] != last[0] else None)
    return found


def _held(parts: _Parts) -> frozenset[str]:
    """Return the sections whose headings stand below a side's heading ("RIGHT", "Findings:")."""
    if not parts.nested:
        return frozenset()
    counts = [title.section for title in parts.titles]
    repeated = {s for s in ("impression", "assessment") if counts.count(s) > 1}
    return frozenset({"findings", "composition"} | repeated)


def _note(clause: Clause, side: Side | None, stated: Stated, language: Language) -> None:
    """Collect what a clause states."""
    if clause.section in EARLIER:
        return
    breasts = _BREASTS if side == "both" else tuple(b for b in _BREASTS if b == side)
    expected = clause.section == "assessment" or stated.chain == clause.paragraph
    found = polarities(stated_terms(clause.text, clause.body, language))
    values = birads(clause.text, language)
    values = values or birads(clause.body, language, expected)
    named = any(mention.side for mention in mentions(clause.text, language))
    for value in values:
        if side in _BREASTS or (named and breasts):
            for breast in breasts:
                (stated.lesions if found else stated.breasts)[breast].append(value)
            if not named:
                stated.implied.append(value)
        else:
            stated.exam.append(value)
    stated.chain = clause.paragraph if values else -1
    composition = clause.section == "composition"
    letter = density(clause.body, language, composition)
    letter = letter or density(clause.text, language)
    stated.density += [letter] if letter else []
    # "Larger on the left than on the right" does not say of which breast a finding is.
    sides = {mention.side for mention in mentions(clause.text, language)}
    for kind, polarity in found.items():
        for breast in () if {"L", "R"} <= sides else breasts:
            stated.findings[breast].setdefault(kind, set()).add(polarity)


def _category(stated: Stated, breast: Laterality) -> str | None:
    """Return the category of a breast: the last of the whole breast, else its worst lesion's."""
    whole = stated.breasts[breast]
    return whole[-1] if whole else most_concerning(stated.lesions[breast])


def _kinds(stated: Stated, polarity: str) -> dict[Laterality, tuple[str, ...]]:
    """Return the kinds of findings of each breast that has one of this polarity at most."""
    found: dict[Laterality, tuple[str, ...]] = {}
    for breast in _BREASTS:
        kinds = stated.findings[breast]
        chosen = [k for k in KINDS if polarity in kinds.get(k, ())]
        if polarity == "possible":
            chosen = [kind for kind in chosen if "present" not in kinds[kind]]
        if chosen:
            found[breast] = tuple(chosen)
    return found
