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

# Those that the text of other tasks contains, whole or as the beginning of a word. The tokenizer may have a token for them.
COMMON = frozenset("""
advice answer apple arch autumn bake banana bark barn bath beach bean bear bed bee bench bicycle bird boat book bottle box bread brick bridge cake
candle card cat ceiling channel chapel chess child choir city clock cloud club coat coffee coin color compass coral cover cup dance dentist desert
desk dinner doctor door dragon drawer earth effort egg engine evening family field fish flower fog folder forest fox friend garage garden glass gold
grass harbor hat honey horizon house ice insect island key kitchen kite land lantern lesson letter level library lunch machine marble market memory
milk mill minute mirror model month morning moss mountain mouse music nest night north oak oasis office oven owl package page paint paper parent park
path pencil piano picture planet plant poem prize quiet rabbit rain recipe reef rice ring river robot roof rope rose sail scissors screw sea season
seed sheep shelf shell ship shoe sink sky snow song soup spider spring square stair stamp star station steam stone story street string summer sun
sunset sweater table target tart teacher thread ticket tool tower town train triangle turtle valley village visitor water wave weather wheel window
winter wizard wool yard year zero zone
""".split())
