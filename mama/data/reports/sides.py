"""Discourse model of a report: the breast that each sentence is about."""

import re
from dataclasses import dataclass, field

from mama.data.reports.categories.birads import birads
from mama.data.reports.categories.density import density
from mama.data.reports.findings import Term, negates, stated_terms
from mama.data.reports.language import Language
from mama.data.reports.mentions import OTHER, Side, mentions
from mama.data.reports.sections import Title

_NEAR = 34  # characters between the article and the noun of a sentence's subject
_STEM = 4  # letters that two forms of a noun share
_LITTLE = re.compile(r"[^\W\d_]+\s")
_ENDING = 3  # letters in which they may differ
_CLOSING = ("impression", "assessment", "addendum")
# Categories that say of a whole exam that nothing is wrong.
_CLEAR = ("1", "2")


@dataclass(frozen=True)
class Clause:
    """A sentence, or its part about one breast; `body` is its text after all headings."""

    text: str
    titles: tuple[Title, ...]
    section: str | None
    paragraph: int
    body: str


@dataclass
class Discourse:
    """Memory of the sentences so far.

    Args:
        language: table of the report's language.
        exam: the only breast of the exam, if its header says so.
        held: sections whose headings stand below side headings, not above them.
    """

    language: Language
    exam: Side | None = None
    held: frozenset[str] = frozenset()
    heading: Side | None = None
    last: Side | None = None
    known: bool = False  # the last sentence of this section has a side, or is about both
    topic: bool = False  # the last sentence only said where: "Left breast, 2 o'clock."
    paragraph: int = -1
    within: Side | None = None
    inline: bool = False  # text stands behind that heading, on its line
    opened: int = -1  # paragraph of the heading with a side
    spoken: set[Side] = field(default_factory=set)  # breasts of this section
    recent: list[Side] = field(default_factory=list)
    by_kind: dict[str, Side] = field(default_factory=dict)
    by_word: dict[str, Side] = field(default_factory=dict)  # "the cyst" is none of the masses
    found: Side | None = None  # breast of the last finding that is present, in this section
    denied: bool = False  # the last sentence only says what the breast that it names has not
    named: list[Side] = field(default_factory=list)  # left and right as sentences name them
    sides_by_kind: dict[str, set[Side | None]] = field(default_factory=dict)
    lesions: set[Side] = field(default_factory=set)
    others: set[Side] = field(default_factory=set)  # sides with findings of no kind

    def side(self, clause: Clause, within: Side | None) -> Side | None:
        """Return the breast of the next sentence, in a part about one; None if it is not known."""
        self.within = within
        for title in clause.titles:
            self.enter(title, clause.paragraph)
        found = stated_terms(clause.text, clause.body, self.language)
        side = self._side(clause, found)
        if self.topic and clause.paragraph != self.paragraph:
            self.topic = False
        self._remember(clause, side, found)
        return side

    def enter(self, title: Title, paragraph: int) -> None:
        """Take up a heading: a section ends the side before it, unless sections lie in sides."""
        if title.section and (title.overall or title.section not in self.held):
            self.heading = None
            self.spoken = set()
            self.found = None
            self.last, self.known, self.topic = None, False, False
        if title.pure and title.side:
            self.heading, self.opened, self.inline = title.side, paragraph, title.inline
            self.last, self.known, self.topic = None, False, False

    def _side(self, clause: Clause, found: list[Term]) -> Side | None:
        named = mentions(clause.text, self.language)
        own = {mention.side for mention in named if mention.side}
        if "both" in own and len(own) > 1:  # "US of both breasts: a cyst on the right"
            entry = mentions(clause.text.partition(":")[2], self.language)
            own = {mention.side for mention in entry if mention.side} or own
        if own:
            side = own.pop() if len(own) == 1 else "both"
            if self.inline and side != self.heading:
                self.heading = None  # prose has gone on to the other breast
            return side
        before = self.last if self.known else None
        if ordinal := self._ordinal(clause.body):
            return ordinal
        if named:  # the contralateral breast
            base = before if before in ("L", "R") else self.heading or self._only() or self.exam
            return OTHER.get(base) if base else None
        if self._overall(clause):
            return self.exam or "both"
        if self.language["pair"].match(clause.body):
            return "both" if {"L", "R"} <= set(self.recent[-2:]) else before or self._only()
        if self._general(clause, found):
            return self.exam or "both"
        refers = self._refers(clause.text, found)
        if refers and before in ("L", "R"):
            return self._antecedent(found, definite=False) or self._thing(clause.text) or before
        if self.heading:
            return self.heading
        if self.exam:
            return self.exam
        if self.topic and clause.paragraph == self.paragraph:
            return self.last
        if refers:
            return self._antecedent(found, definite=True)
        return self._unnamed(clause, found, before)

    def _thing(self, text: str) -> Side | None:
        """Return the breast of the last finding, if the sentence before says only what is absent.

        "No mass in the left breast. It is spiculated." speaks of a mass before; "on that side" is
        a place, and none of a finding.
        """
        bound = self.language["bound"].search(text)
        place = bound and bound[0].split()[-1].lower() in self.language.words["nouns"]
        return self.found if self.denied and self.heading != self.last and not place else None

    def _ordinal(self, text: str) -> Side | None:
        """Return the breast of "the former" or "the latter" of two breasts, named one by one."""
        pair = self.named[-2:]
        if len(set(pair)) < 2:
            return None
        start = 0
        while True:  # "in the latter"
            if self.language["former"].match(text, start):
                return pair[0]
            if self.language["latter"].match(text, start):
                return pair[1]
            word = _LITTLE.match(text, start)
            if not word or word[0].strip().lower() not in self.language.words["articles"]:
                return None
            start = word.end()

    def _unnamed(self, clause: Clause, found: list[Term], before: Side | None) -> Side | None:
        """Return the side of a sentence that names none and refers to nothing before it."""
        text, language = clause.text, self.language
        expected = clause.section == "assessment"
        categories = birads(text, language, expected)
        states = [term for term in found if term.polarity != "absent"]
        lesion = [term for term in states if term.kind != "other"]
        wide = language["exam_wide"].search(text) is not None
        if categories:
            if categories[0] in _CLEAR:
                return "both"
            sides = self.spoken or self.lesions
            if len(sides) > 1:
                return None  # of which of the two breasts it is is left open
            return next(iter(sides), "both")
        if density(text, language, clause.section == "composition") and not lesion:
            return "both"
        if clause.section == "composition" and not lesion:
            return "both"
        if lesion:
            return self._said_before(lesion) if clause.section in _CLOSING else None
        if found and not states:
            return self.within or "both"
        if wide:
            return "both"
        if language["management"].search(text):
            return self._only() or before
        if states:
            if clause.paragraph != self.paragraph:
                return None
            return before if before in ("L", "R") else self._only()
        if before in ("L", "R"):
            return before
        # One thing is not in both breasts: "A dilated duct is present."
        return self._only() if language["single"].match(clause.body) else "both"

    def _general(self, clause: Clause, found: list[Term]) -> bool:
        """Return whether a sentence is about the exam in spite of a heading with a side."""
        if any(term.kind != "other" and term.polarity != "absent" for term in found):
            return False
        if self.language["routine"].search(clause.text):
            return True
        if clause.paragraph == self.opened:
            return False
        wide = self.inline and self.language["exam_wide"].search(clause.text)
        composition = clause.section == "composition"
        return bool(wide or density(clause.text, self.language, composition))

    def _refers(self, text: str, found: list[Term]) -> bool:
        """Return whether a sentence takes up what came before: "It …", "The mass …"."""
        first = len(text) - len(text.lstrip(" -–•*(\"'0123456789.)"))
        if self.language["pronouns"].match(text, first) or self.language["bound"].search(text):
            return True
        word = self.language["determiners"].match(text, first)
        near = [term for term in found if term.start <= first + _NEAR]
        if word and near and (near[0].polarity != "absent" or self._key(near[0]) in self.by_kind):
            return True
        return any(
            term.kind != "other"
            and (term.polarity != "absent" or self._key(term) in self.by_kind)
            and self._definite(text, term)
            for term in found
        )

    def _definite(self, text: str, term: Term) -> bool:
        """Return whether an article or "this" stands before a finding."""
        words = text[max(0, term.start - 24) : term.start].split()
        return any(self.language["determiners"].fullmatch(word) for word in words[-2:])

    def _key(self, term: Term) -> str:
        return term.word if term.kind == "other" else term.kind

    def _antecedent(self, found: list[Term], definite: bool) -> Side | None:
        """Return the side where the finding was named last."""
        for term in found:
            if term.word in self.by_word:
                return self.by_word[term.word]
            for word in reversed(self.by_word):
                if _same_noun(word, term.word):
                    return self.by_word[word]
            if self._key(term) in self.by_kind:
                return self.by_kind[self._key(term)]
        if not definite:
            return None
        before = self.last if self.known else None
        return before if before in ("L", "R") else self._only() or before

    def _said_before(self, lesion: list[Term]) -> Side | None:
        """Return the one breast of all findings that a conclusion repeats, if they have one."""
        sides = {side for term in lesion for side in self.sides_by_kind.get(term.kind, {None})}
        return sides.pop() if len(sides) == 1 else None

    def _only(self) -> Side | None:
        """Return the breast with a finding, if it is one alone."""
        sides = self.lesions or self.others
        return next(iter(sides)) if len(sides) == 1 else None

    def _overall(self, clause: Clause) -> bool:
        return any(
            title.overall and not title.side and title.section in (None, "assessment", "impression")
            for title in clause.titles
        )

    def _remember(self, clause: Clause, side: Side | None, found: list[Term]) -> None:
        named = mentions(clause.text, self.language)
        present = any(term.polarity != "absent" for term in found)
        negated = not present and negates(clause.text, self.language)
        self.denied = bool(named) and negated
        self.found = side if present and side in ("L", "R") else self.found
        sides = {mention.side for mention in named}
        if side in ("L", "R") and len(sides - {None}) == 1:
            self.named.append(side)
        elif {"L", "R"} == sides:  # "the left breast is larger than the right"
            self.named += [mention.side for mention in named if mention.side]
        if self.denied and sides == {None} and self.last:
            return  # "no such mass on the other side" leaves the talk where it was
        if side != self.last:
            self.topic = False
        self.last, self.known = side, side is not None
        self.paragraph = clause.paragraph
        self.recent += [side] if side else []
        self.spoken |= {side} if side in ("L", "R") else set()
        for term in found:
            if term.polarity != "absent":
                self.sides_by_kind.setdefault(term.kind, set()).add(side)
            if side and term.polarity != "absent":
                self.by_kind[self._key(term)] = side
                self.by_word.pop(term.word, None)
                self.by_word[term.word] = side  # the last one stands last
                if side != "both" and clause.section != "comparison":
                    (self.others if term.kind == "other" else self.lesions).add(side)
        said = self.language["statements"].search(clause.text) or found
        where = (
            side in ("L", "R") and named and not said and not negates(clause.text, self.language)
        )
        self.topic = bool(where or self.topic)


def _same_noun(first: str, second: str) -> bool:
    """Return whether two words are one noun in other forms: "Zysten" and "Zyste", "Rundherd"."""
    short, long = sorted((first, second), key=len)
    stem = short[:-1] if len(short) > _STEM else short
    return (long.startswith(stem) and len(long) - len(stem) <= _ENDING) or (
        len(short) >= _STEM and long.endswith(short)
    )
