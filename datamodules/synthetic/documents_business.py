"""Documents of business: delivery notes, company profiles, minutes, insurance claims."""

from datamodules.synthetic import words
from datamodules.synthetic.documents import DocumentKind
from datamodules.synthetic.draw import Draw, with_article


def _delivery_facts(draw: Draw) -> dict[str, str]:
    return {
        "order": draw.code(),
        "customer": draw.person(),
        "seller": draw.organisation(),
        "count": draw.number(12, 940),
        "goods": draw.one_of(words.GOODS),
        "price": draw.number(85, 9400),
        "place": draw.place(),
        "day": draw.day(),
        "driver": draw.surname(),
    }


_DELIVERY_NOTE = DocumentKind(
    name="delivery note",
    facts=_delivery_facts,
    sentences=(
        (
            "{seller} ships order {order} to {customer} in {place}: {count} boxes of {goods}.",
            "Order {order}, {count} boxes of {goods}, goes from {seller} to {customer} in {place}.",
        ),
        (
            "{price} pounds are due when {driver} delivers on {day}.",
            "The driver, {driver}, arrives on {day} and collects {price} pounds.",
        ),
    ),
    questions=(
        (
            "What did {customer} order, and for how much?",
            "{customer} ordered {count} boxes of {goods} from {seller} for {price} pounds.",
        ),
        (
            "Who delivers order {order}, and when?",
            "{driver} brings order {order} to {place} on {day} and collects {price} pounds.",
        ),
    ),
    fields=(
        ("Order", "{order}"),
        ("Customer", "{customer}"),
        ("Goods", "{count} boxes of {goods}"),
        ("Price", "{price} pounds"),
        ("Delivery", "{day}"),
        ("Driver", "{driver}"),
    ),
    summaries=(
        "{customer} gets {count} boxes of {goods} from {seller} on {day} for {price} pounds.",
        "Order {order} brings {goods} worth {price} pounds to {customer} in {place} on {day}.",
    ),
)


def _company_facts(draw: Draw) -> dict[str, str]:
    founded = draw.integer(1878, 2012)
    thing = f"{draw.one_of(words.MATERIALS)} {draw.one_of(words.OBJECTS)}"
    return {
        "firm": draw.organisation(),
        "founder": draw.person(),
        "place": draw.place(),
        "founded": str(founded),
        "thing": thing,
        "a_thing": with_article(thing),
        "staff": draw.number(14, 4200),
        "buyer": draw.organisation(),
        "sold": str(founded + draw.integer(6, 40)),
        "head": draw.person(),
    }


_COMPANY_PROFILE = DocumentKind(
    name="company profile",
    facts=_company_facts,
    sentences=(
        (
            "{founder} founded {firm} in {place} in {founded} to build {a_thing} for every home.",
            "{firm} was started in {founded} by {founder} of {place}, who had designed {a_thing}.",
        ),
        (
            "Since {sold} it has belonged to {buyer}, with {staff} staff led by {head}.",
            "{buyer} bought it in {sold}; today {head} leads its {staff} employees.",
        ),
    ),
    questions=(
        (
            "How did {firm} begin?",
            "{founder} founded {firm} in {place} in {founded} with {a_thing}.",
        ),
        (
            "Who owns and who leads {firm}?",
            "{firm} has belonged to {buyer} since {sold} and is led by {head}.",
        ),
    ),
    fields=(
        ("Company", "{firm}"),
        ("Founder", "{founder}"),
        ("Founding year", "{founded}"),
        ("First product", "{thing}"),
        ("Owner", "{buyer}"),
        ("Director", "{head}"),
    ),
    summaries=(
        "{firm}, founded by {founder} in {founded}, now belongs to {buyer} and employs {staff}.",
        "Led by {head}, {firm} of {place} grew from {a_thing} to {staff} staff under {buyer}.",
    ),
)


def _minutes_facts(draw: Draw) -> dict[str, str]:
    plans = (
        f"repair the {draw.one_of(words.MATERIALS)} roof",
        f"buy {draw.integer(3, 60)} {draw.one_of(words.MATERIALS)} benches",
        f"paint the hall {draw.one_of(words.COLOURS)}",
        f"open on {draw.one_of(words.WEEKDAYS)}s until {draw.integer(18, 22)}:30",
        f"teach {draw.one_of(words.HOBBIES)} to {draw.integer(8, 60)} children",
        f"lend out {draw.integer(5, 90)} {draw.one_of(words.OBJECTS)}s",
    )
    bodies = ("Parish Council", "Library Board", "Choir", "Club", "School Board", "Museum Trust")
    return {
        "body": f"{draw.place()} {draw.one_of(bodies)}",
        "chair": draw.person(),
        "plan": draw.one_of(plans),
        "budget": draw.number(120, 24000),
        "opponent": draw.person(),
        "votes": f"{draw.integer(6, 19)} to {draw.integer(1, 5)}",
        "day": draw.day(),
    }


_MINUTES = DocumentKind(
    name="set of minutes",
    facts=_minutes_facts,
    sentences=(
        (
            "The {body} met on {day} with {chair} in the chair.",
            "{chair} opened the meeting of the {body} on {day}.",
        ),
        (
            "By {votes} votes it was agreed to {plan}, at a cost of {budget} pounds.",
            "Members voted {votes} to {plan} and set aside {budget} pounds.",
        ),
        (
            "{opponent} asked for a cheaper plan.",
            "{opponent} spoke against the expense.",
        ),
    ),
    questions=(
        (
            "What did the {body} decide?",
            "Under {chair} it voted {votes} to {plan} for {budget} pounds.",
        ),
        (
            "Who disagreed at the meeting on {day}, and what was the vote?",
            "{opponent} disagreed, but the {body} voted {votes} to {plan}.",
        ),
    ),
    fields=(
        ("Body", "{body}"),
        ("Chair", "{chair}"),
        ("Decision", "{plan}"),
        ("Budget", "{budget} pounds"),
        ("Vote", "{votes}"),
        ("Opponent", "{opponent}"),
    ),
    summaries=(
        "Despite {opponent}, the {body} voted {votes} to {plan} for {budget} pounds.",
        "On {day} {chair} led the {body} to agree, {votes}, to {plan}.",
    ),
)


def _claim_facts(draw: Draw) -> dict[str, str]:
    causes = (
        "a burst pipe,a fallen tree,a fire,a flood,a lightning strike,a storm,a theft,frost".split(
            ","
        )
    )
    thing = draw.thing()
    return {
        "claim": draw.code(),
        "owner": draw.person(),
        "cause": draw.one_of(causes),
        "place": draw.place(),
        "day": draw.day(),
        "a_thing": with_article(thing),
        "thing": thing,
        "amount": draw.number(140, 7900),
        "clerk": draw.surname(),
    }


_INSURANCE_CLAIM = DocumentKind(
    name="insurance claim",
    facts=_claim_facts,
    sentences=(
        (
            "In claim {claim}, {owner} of {place} reports {a_thing} lost to {cause} on {day}.",
            "{owner} lost {a_thing} in {place} on {day} through {cause} and filed claim {claim}.",
        ),
        (
            "The adjuster, {clerk}, accepted {amount} pounds.",
            "{amount} pounds were approved by {clerk}.",
        ),
    ),
    questions=(
        (
            "What did {owner} lose, and how?",
            "{owner} lost {a_thing} to {cause} in {place} on {day}.",
        ),
        (
            "How was claim {claim} settled?",
            "{clerk} approved {amount} pounds for the {thing} of {owner}.",
        ),
    ),
    fields=(
        ("Claim", "{claim}"),
        ("Claimant", "{owner}"),
        ("Item", "{thing}"),
        ("Cause", "{cause}"),
        ("Amount", "{amount} pounds"),
        ("Adjuster", "{clerk}"),
    ),
    summaries=(
        "{owner} receives {amount} pounds for {a_thing} lost to {cause} in {place}.",
        "Claim {claim}, over {a_thing} lost to {cause}, was settled by {clerk} at {amount} pounds.",
    ),
)

BUSINESS_KINDS = (_DELIVERY_NOTE, _COMPANY_PROFILE, _MINUTES, _INSURANCE_CLAIM)
