"""Words for sorting and spelling: everyday English, 3 to 10 letters, lower case."""

WORDS = sorted(set("""
able acid acorn acre actor adult advice agent alarm album alley almond amber anchor angle ankle answer apple apron arch arena armor arrow artist ash
atlas attic autumn avenue awake axis baby badge bagel bake balcony ball bamboo banana band bank banner barber bark barn barrel basin basket bath
battery beach beacon bean bear beast beauty bed bee beetle bell belt bench berry bicycle bird biscuit blade blanket blaze blend blossom board boat
bonus book boot border bottle bowl box bracket brain branch brass bread breeze brick bridge broom brother brush bubble bucket budget bugle bulb
bundle burner bush butter button cabin cabinet cable cactus cake calm camel camera camp canal candle candy canoe canvas canyon captain carbon
card career cargo carpet carrot cart castle cat cattle cave cedar ceiling celery cellar cement center cereal chain chair chalk channel chapel
chapter charm chart cheese cherry chess chest chicken chief child chimney choir circle circus citizen city clay cliff climate clock cloth cloud
clover club coach coast coat cobra cocoa coconut coffee coin collar color column comet compass concert copper coral corner cotton couch country
cousin cover crab cradle crane crayon cream creek cricket crown crystal cube cup cupboard curtain curve cushion cycle daisy dance danger dawn deer
delta dentist desert desk diamond dinner diver doctor dolphin donkey door dragon drawer dream dress drill drum duck dune dust eagle earth echo
editor effort egg elbow elephant elevator engine envelope evening exit fabric factory falcon family farmer feather fence fern ferry festival fiber
fiddle field finger fire fish flag flame flask flight flower flute fog folder forest fork fossil fountain fox frame friend frog frost fruit funnel
galaxy gallery game garage garden garlic gate giant ginger giraffe glacier glass globe glove goat gold goose grain granite grape grass gravel guitar
hammer hammock harbor harvest hat hawk hazel heart hedge helmet hero heron hill hobby holiday honey hook horizon horse hotel house hunter ice icon
igloo index ink insect iron island ivory ivy jacket jaguar jam jar jasmine jelly jewel jigsaw journal journey judge juice jungle juniper kangaroo
kettle key kingdom kitchen kite kitten knee knife knight koala label ladder lady lake lamp land lantern laptop laser lava lawyer leaf leather lemon
lens leopard lesson letter lettuce level library lid lightning lily lime linen lion lizard lobster locket lunch machine magnet mailbox mammal mango
maple marble margin market mask mast meadow medal melody melon memory menu metal meteor method middle milk mill minute mirror mist mitten model
monkey monsoon month moon morning mosaic moss moth motor mountain mouse muffin museum mushroom music mustard napkin nation nature needle neighbor
nest network night noodle north notebook nurse nut oak oasis oatmeal ocean octopus office olive onion orange orbit orchard orchid organ otter oven
owl oxygen oyster package paddle page paint palace palm panda panther paper parade parcel parent park parrot pasta path peach peacock peanut pear
pebble pelican pencil penguin pepper perfume piano picnic picture pigeon pillow pilot pine pirate pizza planet plant plate plum pocket poem polar
pond pony poppy potato potter powder prairie present prince printer prism prize puddle pumpkin puppet puzzle pyramid quarry quartz queen quiet quill
quilt rabbit raccoon radar radio raft rail rain raisin rake ranch raven razor recipe reef ribbon rice rider ring river road robin robot rocket roof
root rope rose ruby rug ruler saddle sail salad salmon salt sand sandal sauce saddle scarf school science scissors scooter screen screw sea season
secret seed shadow shark sheep shelf shell shield ship shirt shoe shore shoulder shovel silk silver singer sink sister skate sketch skirt sky slipper
snail snake snow soap soccer sofa soil soldier song soup south spark sparrow spice spider spinach spiral spoon spring spruce square squid squirrel
stable stadium stage stair stamp star station statue steam steel stone stool storm story stove straw strawberry stream street string student summer
sun sunset surf swan sweater sword syrup table tablet tailor tango target tart taxi teacher teapot temple tennis tent theater thimble thistle thread
throne thumb thunder ticket tiger timber toast tomato tongue tool tooth torch tortoise towel tower town toy tractor traffic trail train traveler
treasure tree triangle tribe trophy truck trumpet trunk tulip tunnel turkey turnip turtle twig umbrella uncle unicorn uniform valley vase vault
velvet vessel village vine violet violin visitor volcano voyage wagon waiter wallet walnut walrus water wave weasel weather wheat wheel whistle
willow window winter wizard wolf wood wool worker wren wrist yacht yard yarn year yogurt zebra zero zipper zone
""".split()))

# The words of 3 to 11 letters that the text of other tasks contains, and words of WORDS that one of them begins with. The tokenizer may
# have a token for each. tests/demo_text_test.py says what is missing here when a task gets new words.
COMMON = frozenset("""
abilities about above acorn acorns acronym actor actors add advice after afternoon again ago ahead aid air all almost alone alphabet alternate
america amount analysis anchor anchors and animal another answer answers any apple apples appointment are arms around arrived ascending ask assistant
athens atlantic attention austria autumn average away baby back bad bag bake baker bakes banana bare bark barks barn bash batch bath bathroom beach
bean beans bear bed bedroom bee bees before began behind beijing being belgium belong below bench benchmark berlin berries beside best better between
bicycle big bigger bike bird birds birthday bit bits black blew block blocks blood blue boat body book books born borrow both bottle bottles box
boxes boy brave bread breathe brick bricks bridge bridges brief briefly bring broken brought brussels budapest buddy build builds built business busy
but butter butterflies buy buys bye byte bytes cairo cake calculate calculation calculator calendar call called calls calves came can canada candle
candles cannot capital capitals caps car card cards carried carries carry case casual casually cat catch caught ceiling celsius centiliters
centimeter centimeters cents centuries century change changes channel channels chapel chat check checkpoint checkpoints checks cheetah chess child
china choir chosen cities city class clean cleaned clear clever climb climbed clock close closed cloud clouds cloudy club coal coat code coffee coin
coins cold coldest color colors come comes command commands commentary company compare compass complete completion compute contact content continents
convert converter copenhagen coral correct cost costs count cover covered cow cows created cross cup cups curious currencies currency customer
customers cut cutoff dance dances dark dash data date day days decade decades declare decreasing degrees delhi demo denmark dentist departure
descending describes desert desk destination determinism detokenize dice did die digit digits dinner divide divided docs doctor does dog doing dollar
dollars done door double down downwards dozen dozens dragon draw drawer drink dry dublin each early earth easy eat effort efforts egg eggs egypt else
email emerald empty end ends engine engines england enough equal equals euro europe euros evaluate evening event everest every everything exactly
examples exceeds exchange excited excitement exclamation experts explain explained explains exponent eyes faces fact factor factorial falls family
far fast fastest favorite feed feet fell few fewer field fifth file final find fine finland fire fires first fish fit fits fix flies floating flour
flower flowers flows fly fog foggy folder folders folk follow foot football for forecast forest forget form formal formally format found fourth fox
france francs freely friend friendly friends from front frozen full functions garage garden gardener gas gave gentle germany get gets gift giraffe
girl give gives glass goes going gold gone good gpt gram grams grape grapes grass greater greece green greeting greets ground grow grows guide had
haiku haircut hall hallway hand happened happy harbor harmony has have head hear heating hectoliter hectoliters held hello help helpful helsinki here
hexagon hey high higher highest history hits hive holds hole home honey horizon hot hour hours house how hundred hundreds hungary hurt hut huts
hypothesis ice ids inches included increasing independent india insect inspect installs instruction interview into invented ireland iron island italy
item its january japan jazz jet job joke just keep keeps kernels key kilobyte kilobytes kilogram kilograms kilometer kilometers kind king kitchen
kite kitten knew know knowledge known kroner land language lantern large larger largest last late later lay layers layout layouts leap learn learned
leaves left legs lemon length less lesson let lets letter letters level library licence licensed lies life light lighter lighthouse lights like limit
limits line link links lisbon list liter liters little live lived lives living location locked logarithm logits london long longer look lost loud
loudness low lower lunch machine made madrid magnet make makes mantissa many maps marble marbles mark market marks match matter max maximum mean
meaning measure measured measures medical medium meet meeting memory mended meow message messages metal meter meters milk mill milligrams milliliters
millimeters min minimal minimum minus minute minutes mirror missing mixture mod model models monday money month months moon more morning moscow moss
mossy mount mountain mouse moved movie moxie much multiple multiply music mussel must nail nails name named namespace near need needed nest new news
next night nights nile noon north norway not note nothing now number numbers oak oasis object ocean octopus off office often old once one ones only
open opened openings opens operating operation operator opposite options orange order origin original oslo oss other ottawa out output outside oven
over owl own owns oxygen pack package packs page pages paint painted pairs panels paper parameter parameters parent parents paris park parks part
parts pass patch path patience pay pays pencil pencils penguin people per percent performance person pesos phone photo photos phrase physics piano
picture pieces pier pilot place places plan plane planes planet planets plant plants platform play players playing please plus poem point points
poland polite population portugal possible pounds power price prices prime prints prize product program programming prompt proud puppy put puts
quantity quantize quantum query question questions quickest quiet quiz quotation quote quotes rabbit race rain rainy random rate read reads ready
reasoning reasons recipe recipes recipient red reef reefs regards register remain remainder remains remind reminder reminders rent report repository
request rest restaurant result results returns reverse rhymes right ring rings ripe river robot rock roll rome roof roofs room root rope rose round
rows rule run running runs rupees russia sack sad safetensors sail sailor same sang sat save saw say says scale scales school scissors screw screws
script scripts sea search searching season seats second seconds see seed seeds send sends sent sentence sentences service set sets shade sharded
share shared shares sheep shelf shell shells shines ship ships shoe shoes shone shop short should shows shy side sides sighed sign sine sing single
sink size sky slept sliding slow slowly small smaller smallest snail snow snowy solar sold solve some something song songs soon sorry sort sorted
sorts soup source space spain special speed spider spiders spin split sports spring sqrt square stage stair stairs stamp stamps stand stands star
stars start started starting starts state station status stays steam steep step still stock stockholm stone stones stood store stored stores stories
story street string strings strong subtract sum summarize summer sun sunday sunny sunset support sure sweater sweden swims switch symbol synth system
tab table take taken takes taking tale talk talking tall tallest target task tasks tastes tea teacher teaches team tell tells temperature ten tens
tensors terms test tests text than thank thanks that the them then there thermometer thermostat these they thing things think third this thought
thousands thread threads three through thx tick ticket tickets tied tile tiles time timer timers times title today together token tokenize tokenizer
tokens tokyo told tomorrow tonne tonnes too tool tools top total tower town traces track trades train trained training trains translate translation
translator travel triangle tricycle trip triple true trust try turn turns turtle twice two type umbrella under unit units until upon upper upwards
use used user uses using valley value very vienna village violin visitor visitors volume waiting walked walks want wanted wants warm warmest warms
warsaw was wash water wave waves wax way weak wear weather web webs week weekday weeks weight weights welcome well were wet whale what whatever wheel
wheels when where whether which white who whole why wild will win wind window windy wine winter with without wizard won wonder wood wool word words
work works world worth would write writes written wrong wrote yard yards year years yellow yen yes yesterday yoga you young your yourself zero zeros
zone zsh
""".split())

ALL_WORDS = sorted(COMMON.union(WORDS))
COMMON_WORDS = sorted(COMMON)


def fill_words(ctx, pattern: str, words: list[str] = COMMON_WORDS) -> str:
    """The pattern with one of the words for each {w} and, with a capital letter, for each {W}."""
    while "{w}" in pattern or "{W}" in pattern:
        word = ctx.pick(words)
        pattern = pattern.replace("{W}", word.capitalize(), 1) if "{W}" in pattern else pattern.replace("{w}", word, 1)
    return pattern
