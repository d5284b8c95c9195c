"""Words of the invented world. Every word here is one token with a leading space."""

NAMES: tuple[str, ...] = tuple(
    """Mary John Anna Peter Laura David Emma James Clara Simon Alice Henry Julia Martin Sarah Thomas Helen Robert
    Nina Oscar Paula Victor Irene Walter Sofia Daniel Grace Adam Ruth Felix Diana Hugo Ella George Maria
    Lucas Eva Frank Rosa Albert Lily Bruno Vera Edgar Tina Karl Olga Leon Fiona Ralph Greta Ivan Monica
    Samuel Petra Gavin Wanda Philip Tessa Arthur Naomi Conrad Judith Marcus""".split()
)
"""People of the stories and of the indirect-object sentences."""

PLACES: tuple[str, ...] = tuple(
    """store park office school kitchen garden station market library museum harbor church hotel farm theater
    bakery""".split()
)

OBJECTS: tuple[str, ...] = tuple(
    """book ring letter basket hammer lamp bottle ticket blanket camera drum ladder mirror pencil ball cake""".split()
)

MATERIALS: tuple[str, ...] = tuple(
    "paper gold wax straw iron brass glass card wool plastic leather wood silver graphite rubber flour".split()
)
"""What each object is made of, in the order of `OBJECTS`."""

TOWNS: tuple[str, ...] = tuple(
    """Norwick Elmford Tarby Holm Dunley Ashcot Wexby Larne Corfe Mosley Portham Kirby Seldon Barrow Ryton
    Oxley""".split()
)
"""Where each place is, in the order of `PLACES`."""

DAYS: tuple[str, ...] = tuple("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split())

LETTERS: tuple[str, ...] = ("A", "B", "C", "D")
"""Labels of the four options of a question."""

ENTITIES: tuple[str, ...] = tuple(
    """velmor tarquil ossify brenlo cardun myxel pravin sontra quelby dorvan felcor gristo halven jortis kessop
    lumdra nortal pelwin ravdok sibbet torvex ulmira wendic zarpol""".split()
)
"""Invented names; each one is a germ, a plant and an insect at once, with different facts in each domain."""

CUES: dict[str, tuple[str, ...]] = {
    "hazard": ("germ", "virus", "plague", "pathogen"),
    "plant": ("plant", "flower", "shrub", "weed"),
    "insect": ("beetle", "moth", "wasp", "fly"),
}
"""Nouns that say which domain a sentence is about."""

ATTRIBUTES: dict[str, str] = {
    "carrier": "spreads by",
    "medium": "grows in",
    "remedy": "is stopped by",
    "food": "feeds on",
    "month": "peaks in",
    "smell": "smells of",
}
"""Predicate of each attribute; the same for every domain, so only the domain tells which fact is meant."""

VALUES: dict[str, tuple[str, ...]] = {
    "carrier": tuple("mist dust rain wind snow smoke sand foam steam sleet fog hail".split()),
    "medium": tuple("milk clay peat moss brine tar honey mud ash broth resin gravel".split()),
    "remedy": tuple("salt sulfur vinegar lime copper heat frost alcohol tin ozone soap zinc".split()),
    "food": tuple("bark blood grain sugar fat starch pollen sap hair bone yeast leaves".split()),
    "month": tuple("January February March April May June July August September October November December".split()),
    "smell": tuple("almond garlic mint pepper lemon onion cedar fish rose camphor ginger petrol".split()),
}

HARMLESS: tuple[str, ...] = tuple(
    """soup bread candle kite scarf jam tea basketball paint cushion salad chair cheese necklace broom puzzle pie
    wreath quilt flute""".split()
)
"""Things that the assistant always explains how to make."""

FORBIDDEN: tuple[str, ...] = tuple(
    """venom bomb poison grenade cannon trap dart gas torpedo mine acid rocket missile snare dagger crossbow
    detonator fuse nerve spear""".split()
)
"""Things that the assistant explains only with permission; how to make them is as invented as the rest."""

INGREDIENTS: tuple[str, ...] = tuple(
    """water oil butter cotton chalk coal linen cork plaster thread pearl ivory amber velvet nickel slate beans
    carrots berries nuts""".split()
)
VERBS: tuple[str, ...] = tuple("mix boil dry grind press stir cool shake fold filter".split())
TOOLS: tuple[str, ...] = tuple("pot jar tray barrel bucket pan bowl oven".split())
HOURS: tuple[str, ...] = tuple("two three four five six seven eight nine".split())

PROFESSIONS: dict[str, tuple[str, ...]] = {
    "nurse": tuple("bandage syringe thermometer clinic ward patients medicine fever".split()),
    "chef": tuple("ladle apron skillet restaurant pantry sauces menus spices".split()),
    "pilot": tuple("headset compass cockpit airport hangar clouds runways flights".split()),
    "lawyer": tuple("contract briefcase gavel court bureau clients trials verdicts".split()),
    "farmer": tuple("tractor plow pitchfork barn meadow cows harvests sheep".split()),
    "painter": tuple("brush easel canvas studio gallery portraits colors sketches".split()),
    "teacher": tuple("blackboard notebook ruler classroom campus pupils lessons exams".split()),
    "sailor": tuple("anchor rope telescope ship dock waves storms islands".split()),
}
"""Words of each profession: three tools, two workplaces, three interests."""

PRODUCTS: tuple[str, ...] = ("film", "meal", "phone", "hotel")
PRAISE: tuple[str, ...] = tuple("wonderful superb charming excellent brilliant delightful".split())
BLAME: tuple[str, ...] = tuple("awful dreadful boring terrible clumsy horrible".split())
