"""Word lists of the built-in corpus: parts of invented names, and common things to talk about."""

FIRST_NAMES = tuple(
    (
        "Ada Adil Agnes Alina Amara Anders Anouk Arjun Astrid Beatriz Bruno Callum Carmen Cecily "
        "Chidi Clara Daniel Daria Dmitri Edith Elias Emeka Esther Farah Felix Fiona Gareth Gita "
        "Greta Hana Harriet Hugo Imran Ines Iris Jakob Jamila Joanna Jonas Kamal Karin Kenji Lars "
        "Leila Lucia Magnus Maeve Marta Mateo Miriam Nadia Nikhil Nora Olga Omar Oscar Petra Priya "
        "Rafael Rosa Ruth Samir Selma Silvia Stefan Tamsin Tariq Thea Tobias Uma Vera Viktor Wanda "
        "Yusuf Zofia"
    ).split()
)
SURNAME_STARTS = tuple(
    (
        "Ald Bar Bel Bran Cal Car Cor Dan Del Dor Ed Elm Fal Fen Gal Gar Hal Har Hol Ing Jar Jor "
        "Kel Ker Lan Lin Mal Mar Mer Nor Ol Os Pel Pem Quen Ran Ros Sal Sel Sto Tam Tor Ul Van Ver "
        "Wal Win Yar Zel"
    ).split()
)
NAME_MIDDLES = ("", "", "", "a", "e", "i", "o", "en", "er", "ing")
SURNAME_ENDS = tuple(
    (
        "bridge croft dale dane ford forth gate grave hurst ini kins land lek ley low man mont "
        "more "
        "nell ova quist rick sby sen shaw son stein stone ton tti vale vik wick well worth zky"
    ).split()
)
PLACE_STARTS = tuple(
    (
        "Ash Bad Black Brae Cald Clay Cran Dun East Ebb Fair Fox Glen Gran Hawk Hazel Ivy Kirk "
        "Lamb "
        "Long Marl Moor Nether Oak Otter Pen Pike Raven Red Row Sand Shel Skel Spring Stan Swan "
        "Thorn Tre Wat Wen West Whit Wind Wood Wy"
    ).split()
)
PLACE_ENDS = tuple(
    (
        "borough bourne bury by combe cote den ey field fleet ham haven head holm hythe lea mere "
        "mouth ness port ridge sea side stead thorpe thwaite tor water wold"
    ).split()
)
PLACE_PREFIXES = ("Upper ", "Port ", "Little ", "Old ", "South ", "Saint ")
PRODUCT_STARTS = tuple(
    (
        "Aero Alti Brio Cala Ciro Dura Ecla Fero Gela Halo Ino Juva Kora Lumi Mira Nexa Ora Pola "
        "Quo Riva Sola Tera Una Viva Xylo Zephi"
    ).split()
)
PRODUCT_ENDS = tuple(
    ("bex col dyne fix gro lux lon mat nox pad plex rel sol tek trix va vent zen").split()
)
TRADES = tuple(
    (
        "Analytics Bakery Bicycles Boatyard Brewery Ceramics Clockworks Dairy Dyeworks Electric "
        "Foundry Freight Glass Grain Holdings Insurance Joinery Laboratories Logistics Mills "
        "Optics "
        "Orchards Paper Pharmacy Press Quarries Shipping Software Textiles Tiles Timber Tools "
        "Trust "
        "Wines"
    ).split()
)
PROFESSIONS = tuple(
    (
        "accountant architect astronomer baker beekeeper botanist carpenter cellist chemist "
        "composer dentist engineer farmer geologist glassblower historian jeweller journalist "
        "lawyer librarian locksmith mapmaker mechanic midwife nurse painter pharmacist pilot poet "
        "potter sailor sculptor surgeon tailor teacher translator vet violinist watchmaker weaver"
    ).split()
)
MONTHS = tuple(
    (
        "January February March April May June July August September October November December"
    ).split()
)
WEEKDAYS = tuple(("Monday Tuesday Wednesday Thursday Friday Saturday Sunday").split())
COLOURS = tuple(
    (
        "amber black blue beige scarlet cream crimson green grey ivory olive orange pink "
        "purple red "
        "violet teal turquoise white yellow"
    ).split()
)
MATERIALS = tuple(
    (
        "bamboo brass canvas cedar clay copper cork cotton felt glass granite iron leather linen "
        "marble oak paper pewter pine silk slate steel tin walnut wool"
    ).split()
)
OBJECTS = tuple(
    (
        "armchair,backpack,bell,blanket,bowl,box,candlestick,chessboard,clock,compass,desk,drum,"
        "fan,flute,hammock,kettle,kite,ladder,lamp,lantern,mirror,mug,necklace,notebook,oar,"
        "rocking horse,scarf,stool,suitcase,teapot,telescope,tent,tray,umbrella,vase,wardrobe,"
        "weathervane,whistle"
    ).split(",")
)
GOODS = tuple(
    (
        "apple juice,bath towels,bicycle tyres,birdseed,brass hinges,bread flour,candles,"
        "coffee beans,copper pipe,desk lamps,door handles,envelopes,fishing nets,floor tiles,"
        "garden hoses,glass jars,honey,ladders,light bulbs,notebooks,olive oil,paint brushes,"
        "paving stones,pencils,raincoats,rice,roof slates,seed potatoes,soap,tea,tinned peaches,"
        "wool blankets"
    ).split(",")
)
ANIMALS = tuple(
    (
        "badger bat beetle bittern crane curlew dormouse eel falcon finch gecko hare heron kestrel "
        "lizard lynx marten moth newt otter owl plover seal shrew stork swift tern toad trout vole "
        "warbler wren"
    ).split()
)
ANIMAL_MARKS = tuple(
    (
        "banded barred crested dusky eared finned footed freckled hooded horned masked ringed "
        "spotted striped tailed throated whiskered winged"
    ).split()
)
DISHES = tuple(
    (
        "apple cake,barley soup,bean stew,cheese pie,fig tart,fish curry,ginger biscuits,"
        "lamb dumplings,leek pancakes,lemon rice,lentil salad,mushroom risotto,nut roast,"
        "onion bread,pea fritters,pear crumble,plum pudding,potato gratin,pumpkin noodles,"
        "smoked trout,spinach omelette,walnut loaf"
    ).split(",")
)
INSTRUMENTS = tuple(
    (
        "accordion banjo bassoon cello clarinet cornet dulcimer fiddle flute guitar harp horn lute "
        "mandolin oboe organ piano trombone trumpet viola"
    ).split()
)
ADJECTIVES = tuple(
    (
        "ancient brisk bright broken calm clever crowded curious dusty early empty faithful "
        "forgotten gentle golden hidden hollow hungry late lonely lost narrow patient quiet "
        "restless sharp shy silent sleepy slow small stubborn sudden tired wandering warm wild "
        "winding young"
    ).split()
)
SCENE_NOUNS = tuple(
    (
        "anchor apple bell bridge candle castle clock cloud coat door feather ferry fiddle fox "
        "garden ghost harbour island key lamp letter lighthouse map mill mirror moon mountain "
        "orchard owl piano pocket postman river road shadow ship snow song station stone storm "
        "tailor tower train valley window winter"
    ).split()
)
HOBBIES = tuple(
    (
        "archery,baking,birdwatching,bookbinding,calligraphy,candle making,chess,climbing,cycling,"
        "fencing,fishing,gardening,juggling,kayaking,knitting,origami,photography,pottery,rowing,"
        "running,sailing,sketching,stargazing,swimming,weaving,woodcarving,yoga"
    ).split(",")
)
