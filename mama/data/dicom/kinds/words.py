"""Words by which descriptions in a header name what is no mammogram for reading, or a special one.

In the seven languages of `configs/languages`. They are compared with text in capitals without
accents or underscores (`Fields.plain`): Präparat is PRAPARAT, Pièce_opératoire PIECE OPERATOIRE.
"""

import re

from mama.config.ingest import Kind


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.MULTILINE)  # one description a line


SYNTHETIC = _any(
    r"GENERATED 2D|(?<![A-Z])SYNTH(?!ES[IE])|(?<![A-Z])SYNTHESI[SZ]E|SYNTHESIS 2D|SYN ?VIEW",
    r"C-?VIEW|V-?PREVIEW|INSIGHT ?2D|INTELLIGENT ?2D|S-?VIEW|\bS2D\b|CLEAR ?VIEW",
    r"(?<![A-Z])SI[NM]TETI[CZ]|2D (FROM|AUS|DEPUIS|DA|DE|UIT) (TOMO|DBT|3D)",
)
TOMOSYNTHESIS = _any(r"TOMO|\bDBT\b|\bBTO\b|\bSLICE|\bSLAB|MAX IP|\bMIP\b|\bVOLUME\b|RECONSTRUCTED")
_SLICE = r"(SLICE|SLAB|SCHICHT|COUPES|CORTES|STRATI\b|FETTE|SNEDE)"
SLICES = _any(rf"(TOMO|\bDBT|\b3D).*{_SLICE}|{_SLICE}.*(TOMO|\bDBT|\b3D)|^\W*(SLICE|SLAB)S?\b")
# In a description these may be said of the exam, whose two-dimensional images are wanted.
VOLUME = _any(r"TOMO|\bDBT\b|\bBTO\b|\b3D (RECON|REKON|PROJ|VOL)")
TWO_DIMENSIONAL = _any(
    r"\b2 ?D\b|FFDM|COMBO|SCREEN|DIAGN|MAMM?O|[+&/]",
    r"\b(AND|WITH|W|UND|MIT|ET|AVEC|Y|CON|E|COM|EN|MET)\b",
)
RAW = _any(
    r"\bFOR PROC|UNPROCESSED|\bRAW\b|ROHBILD|ROHDATEN|UNBEARBEITET|\bBRUTE?S?\b|\bBRUT[OA]S?\b",
    r"\bCRUD[OA]S?\b|\bGREZZ[OAI]\b|\bRUWE\b",
)
CONTRAST = _any(r"RECOMBIN|REKOMBIN|RICOMBIN|SUBTRA|SUBSTRA|SOTTRA|HIGH[ -]?ENERGY|HOCHENERGIE")

STEREOTACTIC = _any(
    r"STEREO|SCOUT|NEEDLE|WIRE ?LOC|BIOPS|\b(BX|BIOPT|VABB?)\b|LO[CK]ALI[SZ]+A(TI|CI|ZI|CA)",
    r"\bP(RE|OST)[ -]?FIRE|TARGET ?[+-]|TARGETING|GALA[CK]TOGRA|DUCTOGRA|DUKTOGRA",
    r"DRAHT|NADEL|STANZE|ZIELPUNKT|HARPON|\bARPON|REPERAGE|\bREPERE|FIL METALL|MARCAJE",
    r"AGULHA|\bAGUJA|\bAIGUILLE|FILO GUIDA|\bNAALD|DRAAD",
)
# "Post stereo biopsy" is an ordinary mammogram of a breast that was biopsied before.
EARLIER_BIOPSY = _any(
    r"\b(?:POST|AFTER|PRE|PRIOR|PREVIOUS|STATUS|S/P|HX|HISTORY|NACH|Z\.? ?N\.?|VOR|KONTROLLE"
    r"|APRES|AVANT|ATCD|TRAS|DESPUES|PREVIA|DOPO|PRIMA|APOS|ANTES|NA|VOOR)[ -]?"
    r"(?:[A-Z]+ ){0,3}?(?:[A-Z]*BIOPS\w*|BX|BIOPT)\b"
)
# A study that is named after a biopsy may hold a mammogram for reading too.
WITH_MAMMOGRAM = _any(
    r"SCREEN|DIAGN|BILAT|POSSIBLE|\b(POST|US|MRI?|MRT|IRM|RMN?|MAMMOGRA\w*|MAMOGRA\w*)\b",
    r"ULTRA|SONOGRA|ECOGRA|ECHOGRA|FOLLOW|KONTROLL|CONTROL",
)
SPECIMEN = _any(
    r"[SE]PECIMEN|\bESPECIME|(TISSUE|CORE|SURGICAL) SAMPLE|BIOPSY CORES?\b|PRAE?PARAT|PREPARAAT",
    r"PROBENAUFNAHME|GEWEBEPROBE|\bPIECES? (OP|CH|D.?EX)|\bEXERESE|\bPIEZA|\bPEZZO|\bPECA\b",
    r"\bCAROTTES?\b|\bCAMPIONE",
)
_CONTROL = r"(QUALITY|QUALITAT|QUALITAE?TS|QUALITE|CALIDAD|QUALITA|QUALIDADE|KWALITEIT)"
PHANTOM = _any(
    rf"PHANTOM|FANTOM|\bQ[CA]\b|{_CONTROL}S?[ -]?(CONTROL|ASSUR|SICHER|KONTROL)",
    rf"(CONTROL|CONTROLE|CONTROLLO) (DE |DI |DELLA |DA )?{_CONTROL}|KONSTANZPR|PRUFKORPER",
    r"\bACR TEST|^ *ACR *$|FLAT ?-?FIELD(?! ?COR)|\bUNIFORMITY|\bCDMAM|\bPMMA|\bAEC TEST",
    r"\b[CK]ALIBR(ATION|AGE|IERUNG|ACION|AZIONE|ACAO|ATIE)\b|\bTEST ?(IMAGE|BILD|OBJECT)",
    r"ARTE?IFACT (EVAL|TEST)|(DETECTOR|DETEKTOR) ?TEST",
)
# Names and numbers of people are left alone unless they say it plainly.
PHANTOM_NAME = _any(r"PHANTOM|\bQC\b|QUALITY CONTROL|\bACR TEST|\bCDMAM\b|FLAT ?FIELD")

# A page about the dose or by a CAD, not "low dose" or "screening with CAD".
_PAGE = (
    r"(REPORT|PAGE|SUMMARY|SHEET|INFO\w*|RECORD|RESULTS?|OVERLAYS?|MARKS?|BERICHT|PROTOKOLL"
    r"|RAPPORTO?|RESUME|RELAZIONE|RELATORIO|VERSLAG)"
)
_DOSE = r"(DOSE|DOSES|DOSIS|DOSI|CAD|EXPOSURE|EXPOSITION)"
SCREEN = _any(
    r"SCREEN ?-?(SAVE|SHOT|CAPTURE|DUMP)|SECONDARY ?CAPTURE|BILDSCHIRM|CAPTURE D?.?ECRAN",
    r"CAPTURA DE (PANTALLA|TELA)|SCHERMATA|SCHERMAFDRUK|\bHARD ?COPY|\bPDF\b|\bOVERLAYS?\b",
    rf"^ *(DOSE|DOSIS|DOSI|CAD|REPORT) *$|\b{_DOSE}[ -]?{_PAGE}\b|\bREPORT PAGE|DOSISBLATT",
    rf"\b{_PAGE} (OF |DE |DI |DEL |DELLA |DA |VAN )?(LA |L')?{_DOSE}\b|\bPATIENT PROTOCOL",
    r"IMAGE ?CHECKER|SECOND ?LOOK|\bR2 CAD|SCAN(NED)? (DOC|FORM|PAGE|PAPER|REPORT)",
    r"\bDOCUMENT|\bDOKUMENT|REQUISITION|CONSENT|QUESTION+AIRE|FRAGEBOGEN|EINWILLIGUNG|ANFORDERUNG",
    r"UBERWEISUNG|ORDONNANCE|BEFUNDBERICHT|ARZTBRIEF|COMPTE[ -]RENDU|\bINFORME\b|\bREFERTO\b",
    r"\bLAUDO\b|\bVERSLAG\b|\bANNOTAT(ED|ION)|WORK ?SHEET",
)

_LOCAL = r"(LOCALI|FOCAL|SELE[CT]+I|MIRAT|CENTR|CIBL)"
KINDS: tuple[tuple[re.Pattern[str], Kind], ...] = (
    (
        _any(
            r"\bMAG(NIF|\b|\d)|VERGRO?E?SS|\bVERGR\b|AGRANDI|\bAMPLI(ACI|ACA|AT|AD|FI)|INGRANDI",
            r"VERGROTING",
        ),
        "magnification",
    ),
    (
        _any(
            rf"\bSPOT|COMPRESS?(ION|ED|IONE|AO|IE) {_LOCAL}|{_LOCAL}\w* COMPRESS|CLICHE {_LOCAL}",
            r"ZIELAUFNAHME|(ZIEL|TUBUS|SPOT|FOKAL)[ -]?KOMPRESSION|\bCONED?[ -](DOWN|VIEW|COMPR)",
        ),
        "spot",
    ),
    (
        _any(
            r"IMPLANT[ -]?DISPL|EKLUND|\bPUSH ?-?BACK|\bID VIEW|IMPLANTAT (WEG|VERSCH|VERLAG)",
            r"(IMPLANT\w*|PROTHESE|PROTESI?S?|PROTESE) (REFOUL|DEPLAC|DESPLAZ|DISLOC|SPOST|DESLOC)",
            r"IMPLANTAAT VERPL",
        ),
        "implant_displaced",
    ),
    (_any(r"MASTE[CK]TOM|\bABLATIO"), "post_mastectomy"),
)
