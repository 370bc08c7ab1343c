//! Names in the made-up shop.

/// Category, middle price, subcategories.
pub(super) const CATEGORIES: [(&str, f64, [&str; 4]); 12] = [
    ("Bags", 85.0, ["Backpack", "Dry Bag", "Duffel", "Hip Pack"]),
    ("Footwear", 120.0, ["Trail Shoe", "Hiking Boot", "Sandal", "Wader"]),
    ("Jackets", 160.0, ["Rain Shell", "Down Jacket", "Windbreaker", "Fleece"]),
    ("Knitwear", 45.0, ["Sweater", "Beanie", "Scarf", "Wool Sock"]),
    ("Tents", 240.0, ["Ridge Tent", "Dome Tent", "Tarp", "Bivvy"]),
    ("Kitchen", 35.0, ["Camp Stove", "Mug", "Cook Set", "Flask"]),
    ("Lighting", 40.0, ["Lantern", "Headlamp", "Torch", "Candle Lamp"]),
    ("Optics", 210.0, ["Binoculars", "Spotting Scope", "Monocular", "Tripod"]),
    ("Books", 22.0, ["Field Guide", "Sea Chart", "Notebook", "Novel"]),
    ("Cycling", 60.0, ["Pannier", "Bike Light", "Saddle", "Bar Bag"]),
    ("Water", 180.0, ["Kayak", "Paddle", "Wetsuit", "Life Vest"]),
    ("Garden", 30.0, ["Bird Feeder", "Nest Box", "Planter", "Watering Can"]),
];

/// Number of categories.
pub(super) const NUM_CATEGORIES: usize = CATEGORIES.len();
/// Subcategories of each category.
pub(super) const NUM_SUBCATEGORIES: usize = 4;

/// Makers, who name themselves after waders and coasts.
pub(super) const BRANDS: [&str; 40] = [
    "Dunlin",
    "Knot",
    "Turnstone",
    "Curlew",
    "Whimbrel",
    "Redshank",
    "Plover",
    "Godwit",
    "Avocet",
    "Ruff",
    "Stint",
    "Phalarope",
    "Dotterel",
    "Lapwing",
    "Snipe",
    "Tern",
    "Petrel",
    "Fulmar",
    "Skua",
    "Eider",
    "Gannet",
    "Kittiwake",
    "Guillemot",
    "Razorbill",
    "Harbour",
    "Estuary",
    "Driftline",
    "Saltmarsh",
    "Shingle",
    "Skerry",
    "Fjord",
    "Tideway",
    "Breakwater",
    "Lagoon",
    "Headland",
    "Sandbar",
    "Wadden",
    "Lighthouse",
    "Foreshore",
    "Spindrift",
];

/// What a product is like.
pub(super) const ADJECTIVES: [&str; 24] = [
    "Light",
    "Classic",
    "Alpine",
    "Coastal",
    "Compact",
    "Folding",
    "Winter",
    "Summer",
    "Merino",
    "Waxed",
    "Storm",
    "Quiet",
    "Roving",
    "Granite",
    "Amber",
    "Slate",
    "Indigo",
    "Heather",
    "Midnight",
    "Copper",
    "Moss",
    "Sand",
    "Expedition",
    "Everyday",
];
