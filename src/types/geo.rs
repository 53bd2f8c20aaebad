//! Positions on the earth as sorted-set scores, distances between them, and the score ranges a search has to read.
//!
//! ```text
//! score, 52 bits:   longitude and latitude interleaved, longitude first
//!                   51        50       49        48             1         0
//!                  +---------+--------+---------+--------+-- --+---------+--------+
//!                  | lon 25  | lat 25 | lon 24  | lat 24 | ... | lon 0   | lat 0  |
//!                  +---------+--------+---------+--------+-- --+---------+--------+
//! ```
//!
//! A coordinate is the number of the step it lies in, of 2^26 steps over its whole range; the ranges end where the
//! Mercator map does (85.05112878 degrees north and south). The upper `2 * step` bits name a cell of the map, and
//! all positions inside a cell are one range of scores.
//!
//! Every floating-point operation follows the order Redis 7.2 does it in, so that a search finds the same members
//! in the same order and prints the same digits. Angles are degrees, distances metres, unless a name says else.
//!
//! Source: Redis 7.2 GEOADD, GEOSEARCH, GEODIST, GEOHASH, GEOPOS.

/// A position, in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    pub longitude: f64,
    pub latitude: f64,
}

impl Position {
    /// Whether it can be stored: the poles cannot, and NaN is nowhere.
    pub fn is_valid(self) -> bool {
        MAP.longitude.contains(self.longitude) && MAP.latitude.contains(self.latitude)
    }

    /// The score of this position, which must be valid.
    pub fn score(self) -> u64 {
        Cell::at(&MAP, self, SCORE_STEP).bits
    }

    /// The middle of the smallest cell that `score` names. Any score gives a valid position, as in Redis.
    pub fn from_score(score: f64) -> Self {
        let area = Cell { bits: score_bits(score), step: SCORE_STEP }.area();
        Self { longitude: MAP.longitude.clamp(area.longitude), latitude: MAP.latitude.clamp(area.latitude) }
    }

    /// The standard geohash text of this position. Its 11th character is always `0`: 52 bits end before it.
    pub fn geohash(self) -> [u8; 11] {
        let bits = Cell::at(&GLOBE, self, SCORE_STEP).bits;
        std::array::from_fn(|idx| if idx == 10 { b'0' } else { ALPHABET[(bits >> (47 - idx * 5)) as usize & 31] })
    }

    /// The great-circle distance (haversine), in metres.
    pub fn distance(self, other: Self) -> f64 {
        let half_longitude = ((radians(other.longitude) - radians(self.longitude)) / 2.0).sin();
        if half_longitude == 0.0 {
            return self.latitude_distance(other);
        }
        let (latitude, other_latitude) = (radians(self.latitude), radians(other.latitude));
        let half_latitude = ((other_latitude - latitude) / 2.0).sin();
        let a = half_latitude * half_latitude + latitude.cos() * other_latitude.cos() * half_longitude * half_longitude;
        // Rounding can take this above 1 for opposite points, which have no distance in Redis then.
        2.0 * EARTH_RADIUS * a.sqrt().min(1.0).asin()
    }

    fn latitude_distance(self, other: Self) -> f64 {
        EARTH_RADIUS * (radians(other.latitude) - radians(self.latitude)).abs()
    }
}

/// A unit of length a client may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Metres,
    Kilometres,
    Feet,
    Miles,
}

impl Unit {
    /// Reads `m`, `km`, `ft` or `mi`, in any case.
    pub fn parse(name: &[u8]) -> Option<Self> {
        let names: [(&[u8], Self); 4] =
            [(b"m", Self::Metres), (b"km", Self::Kilometres), (b"ft", Self::Feet), (b"mi", Self::Miles)];
        names.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, unit)| unit)
    }

    /// How many metres one is.
    pub fn metres(self) -> f64 {
        match self {
            Self::Metres => 1.0,
            Self::Kilometres => 1000.0,
            Self::Feet => 0.3048,
            Self::Miles => 1609.34,
        }
    }
}

/// What a search looks for around its centre; lengths in metres.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    Circle {
        radius: f64,
    },
    /// Sides parallel to the meridians and the equator.
    Box {
        width: f64,
        height: f64,
    },
}

/// A search around a position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Search {
    pub center: Position,
    pub shape: Shape,
}

impl Search {
    /// The distance from the centre, in metres, when `position` lies in the shape.
    pub fn distance_within(&self, position: Position) -> Option<f64> {
        match self.shape {
            Shape::Circle { radius } => Some(self.center.distance(position)).filter(|distance| *distance <= radius),
            Shape::Box { width, height } => {
                let same_latitude = Position { longitude: self.center.longitude, ..position };
                let outside = position.latitude_distance(self.center) > height / 2.0
                    || position.distance(same_latitude) > width / 2.0;
                (!outside).then(|| self.center.distance(position))
            }
        }
    }

    /// The ranges of scores, each from its first (included) to its last (excluded), that together hold every
    /// position in the shape, in the order Redis reads them. Very large shapes may name one range twice.
    pub fn score_ranges(&self) -> Vec<(f64, f64)> {
        let bounds = self.bounds();
        let estimate = self.estimated_step();
        let mut center = Cell::at(&MAP, self.center, estimate);
        if estimate > 1 && !center.neighbours_reach(&bounds) {
            center = Cell::at(&MAP, self.center, estimate - 1);
        }
        let mut ranges = Vec::with_capacity(9);
        let mut previous = None;
        for (idx, (east, north)) in NEIGHBOURS.into_iter().enumerate() {
            let cell = center.moved(east, north);
            if center.is_excluded(east, north, &bounds) || previous == Some(cell) {
                continue;
            }
            ranges.push(cell.scores());
            // Redis compares with the last neighbour read, but never with the centre.
            previous = (idx > 0).then_some(cell);
        }
        ranges
    }

    /// The rectangle around the shape; it may pass the ends of the map.
    fn bounds(&self) -> Area {
        let Position { longitude, latitude } = self.center;
        let (width, height) = match self.shape {
            Shape::Circle { radius } => (radius, radius),
            Shape::Box { width, height } => (width / 2.0, height / 2.0),
        };
        let latitude_delta = degrees(height / EARTH_RADIUS);
        // The side nearer to the pole is the longer one in degrees.
        let widest = if latitude < 0.0 { latitude - latitude_delta } else { latitude + latitude_delta };
        let longitude_delta = degrees(width / EARTH_RADIUS / radians(widest).cos());
        Area {
            longitude: Span { min: longitude - longitude_delta, max: longitude + longitude_delta },
            latitude: Span { min: latitude - latitude_delta, max: latitude + latitude_delta },
        }
    }

    /// The step whose cells are about as large as the shape, so that nine of them cover it.
    fn estimated_step(&self) -> u32 {
        let mut range = match self.shape {
            Shape::Circle { radius } => radius,
            Shape::Box { width, height } => ((width / 2.0) * (width / 2.0) + (height / 2.0) * (height / 2.0)).sqrt(),
        };
        if range == 0.0 {
            return SCORE_STEP;
        }
        let mut step = -1_i32;
        while range < MERCATOR_MAX {
            range *= 2.0;
            step += 1;
        }
        let latitude = self.center.latitude.abs();
        step -= i32::from(latitude > 66.0) + i32::from(latitude > 80.0);
        step.clamp(1, SCORE_STEP as i32) as u32
    }
}

/// A distance as GEODIST prints it: four digits behind the point.
pub fn distance_text(distance: f64) -> String {
    let scaled = (distance * 10_000.0).round_ties_even();
    // What has no 64-bit value becomes the smallest one, as the conversion instruction of x86-64 does in Redis.
    let fits = (-TWO_POW_63..TWO_POW_63).contains(&scaled);
    let scaled = if fits { scaled as i64 } else { i64::MIN };
    let sign = if scaled < 0 { "-" } else { "" };
    let digits = scaled.unsigned_abs();
    format!("{sign}{}.{:04}", digits / 10_000, digits % 10_000)
}

/// A coordinate as GEOPOS prints it: 17 digits behind the point, without zeros at the end.
pub fn coordinate_text(degrees: f64) -> String {
    let mut text = format!("{degrees:.17}");
    text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    if text == "-0" { "0".to_owned() } else { text }
}

/// A rectangle of the map: all positions whose score begins with the same `2 * step` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    bits: u64,
    /// 1 to 26.
    step: u32,
}

impl Cell {
    /// The cell of `position` on a map that covers `whole`.
    fn at(whole: &Area, position: Position, step: u32) -> Self {
        let cells = (1_u64 << step) as f64;
        let latitude = whole.latitude.fraction(position.latitude) * cells;
        let longitude = whole.longitude.fraction(position.longitude) * cells;
        Self { bits: spread(latitude as u32) | spread(longitude as u32) << 1, step }
    }

    fn area(self) -> Area {
        let cells = (1_u64 << self.step) as f64;
        let side = |whole: Span, number: u32| {
            let edge = |number: u32| whole.min + (f64::from(number) / cells) * (whole.max - whole.min);
            Span { min: edge(number), max: edge(number.wrapping_add(1)) }
        };
        Area { longitude: side(MAP.longitude, gather(self.bits >> 1)), latitude: side(MAP.latitude, gather(self.bits)) }
    }

    /// The cell `east` cells to the east and `north` to the north (-1, 0 or 1), around the ends of the map.
    fn moved(self, east: i8, north: i8) -> Self {
        Self { bits: self.moved_within(ODD_BITS, east) | self.moved_within(EVEN_BITS, north), step: self.step }
    }

    /// The bits of one coordinate (the odd or the even ones), `by` cells on. The other bits lend the carry. A
    /// coordinate at the very end of its range keeps the bit it has too much, as in Redis, until it moves.
    fn moved_within(self, coordinate: u64, by: i8) -> u64 {
        let used = u64::MAX >> (64 - self.step * 2);
        let (number, others) = (self.bits & coordinate, !coordinate & used);
        match by {
            0 => number,
            1 => number.wrapping_add(others + 1) & coordinate & used,
            _ => (number | others).wrapping_sub(others + 1) & coordinate & used,
        }
    }

    /// Whether the cells around this one reach the ends of `bounds`.
    fn neighbours_reach(self, bounds: &Area) -> bool {
        let too_short = self.moved(0, 1).area().latitude.max < bounds.latitude.max
            || self.moved(0, -1).area().latitude.min > bounds.latitude.min
            || self.moved(1, 0).area().longitude.max < bounds.longitude.max
            || self.moved(-1, 0).area().longitude.min > bounds.longitude.min;
        !too_short
    }

    /// Whether this centre cell alone covers `bounds` towards the given neighbour.
    fn is_excluded(self, east: i8, north: i8, bounds: &Area) -> bool {
        let area = self.area();
        self.step >= 2
            && ((north < 0 && area.latitude.min < bounds.latitude.min)
                || (north > 0 && area.latitude.max > bounds.latitude.max)
                || (east < 0 && area.longitude.min < bounds.longitude.min)
                || (east > 0 && area.longitude.max > bounds.longitude.max))
    }

    fn scores(self) -> (f64, f64) {
        let free_bits = 2 * (SCORE_STEP - self.step);
        ((self.bits << free_bits) as f64, ((self.bits + 1) << free_bits) as f64)
    }
}

/// A range of one coordinate, in degrees.
#[derive(Clone, Copy, Debug)]
struct Span {
    min: f64,
    max: f64,
}

impl Span {
    fn contains(self, degrees: f64) -> bool {
        (self.min..=self.max).contains(&degrees)
    }

    /// The middle of `inner`, held inside this span.
    fn clamp(self, inner: Self) -> f64 {
        ((inner.min + inner.max) / 2.0).clamp(self.min, self.max)
    }

    fn fraction(self, degrees: f64) -> f64 {
        (degrees - self.min) / (self.max - self.min)
    }
}

#[derive(Clone, Copy, Debug)]
struct Area {
    longitude: Span,
    latitude: Span,
}

/// Puts the bits of `number` into the even bits.
fn spread(number: u32) -> u64 {
    SPREAD_STEPS.iter().rev().fold(u64::from(number), |bits, (shift, mask)| (bits | bits << shift) & mask)
}

/// Takes the even bits together.
fn gather(bits: u64) -> u32 {
    let [(_, first), ..] = SPREAD_STEPS;
    let shifts = SPREAD_STEPS.iter().map(|(shift, _)| shift);
    let masks = SPREAD_STEPS.iter().skip(1).map(|(_, mask)| *mask).chain([u64::from(u32::MAX)]);
    shifts.zip(masks).fold(bits & first, |bits, (shift, mask)| (bits | bits >> shift) & mask) as u32
}

/// The integer part of a score, as the conversion in Redis on x86-64 gives it for scores no position has.
fn score_bits(score: f64) -> u64 {
    if score < 0.0 {
        score as i64 as u64
    } else if score < 2.0 * TWO_POW_63 {
        score as u64
    } else {
        0
    }
}

fn radians(degrees: f64) -> f64 {
    degrees * (std::f64::consts::PI / 180.0)
}

fn degrees(radians: f64) -> f64 {
    radians / (std::f64::consts::PI / 180.0)
}

/// Bits of a coordinate in a score.
const SCORE_STEP: u32 = 26;
/// What scores can name.
const MAP: Area =
    Area { longitude: Span { min: -180.0, max: 180.0 }, latitude: Span { min: -85.051_128_78, max: 85.051_128_78 } };
/// What standard geohashes can name.
const GLOBE: Area = Area { longitude: MAP.longitude, latitude: Span { min: -90.0, max: 90.0 } };
/// The quadratic mean radius of WGS-84, in metres.
const EARTH_RADIUS: f64 = 6_372_797.560_856;
/// Half the width of the Mercator map, in metres.
const MERCATOR_MAX: f64 = 20_037_726.37;
const TWO_POW_63: f64 = (1_u64 << 63) as f64;
const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
/// The centre and its neighbours (cells to the east, to the north) in the order they are read.
const NEIGHBOURS: [(i8, i8); 9] = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];
const EVEN_BITS: u64 = 0x5555_5555_5555_5555;
const ODD_BITS: u64 = 0xaaaa_aaaa_aaaa_aaaa;
/// How far bits move apart in each step of spreading, and which bits then count; gathering goes the other way.
const SPREAD_STEPS: [(u32, u64); 5] = [
    (1, EVEN_BITS),
    (2, 0x3333_3333_3333_3333),
    (4, 0x0f0f_0f0f_0f0f_0f0f),
    (8, 0x00ff_00ff_00ff_00ff),
    (16, 0x0000_ffff_0000_ffff),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PALERMO: Position = Position { longitude: 13.361389, latitude: 38.115556 };
    const CATANIA: Position = Position { longitude: 15.087269, latitude: 37.502669 };

    fn stored(position: Position) -> Position {
        Position::from_score(position.score() as f64)
    }

    /// Expected values: Redis 7.2.6.
    #[test]
    fn known_places() {
        assert_eq!(PALERMO.score(), 3_479_099_956_230_698);
        assert_eq!(CATANIA.score(), 3_479_447_370_796_909);
        assert_eq!(&stored(PALERMO).geohash(), b"sqc8b49rny0");
        assert_eq!(&stored(CATANIA).geohash(), b"sqdtr74hyu0");
        assert_eq!(coordinate_text(stored(PALERMO).longitude), "13.36138933897018433");
        assert_eq!(coordinate_text(stored(PALERMO).latitude), "38.11555639549629859");
        assert_eq!(distance_text(stored(PALERMO).distance(stored(CATANIA))), "166274.1516");
        let corner = Position { longitude: 180.0, latitude: 85.05112878 };
        assert_eq!(corner.score(), 3 << 52);
        assert_eq!(stored(corner), corner);
    }

    #[test]
    fn what_no_map_has_is_invalid() {
        for (longitude, latitude) in
            [(180.1, 0.0), (0.0, 85.06), (f64::NAN, 0.0), (0.0, f64::NAN), (f64::INFINITY, 0.0)]
        {
            assert!(!Position { longitude, latitude }.is_valid());
        }
        assert!(Position { longitude: -180.0, latitude: -85.05112878 }.is_valid());
    }

    #[test]
    fn any_score_is_a_position() {
        for score in [-1.0, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300, 0.5, 1e19, f64::MIN_POSITIVE] {
            assert!(Position::from_score(score).is_valid(), "{score}");
        }
    }

    #[test]
    fn texts() {
        assert_eq!(distance_text(0.0), "0.0000");
        assert_eq!(distance_text(0.0775), "0.0775");
        assert_eq!(distance_text(12.00005), "12.0000");
        assert_eq!(distance_text(f64::NAN), "-922337203685477.5808");
        assert_eq!(coordinate_text(0.0), "0");
        assert_eq!(coordinate_text(-10.5), "-10.5");
        assert_eq!(coordinate_text(100.0), "100");
        assert_eq!(Unit::parse(b"Km"), Some(Unit::Kilometres));
        assert_eq!(Unit::parse(b"yd"), None);
    }

    #[test]
    fn odd_searches_end() {
        for length in [0.0, f64::MIN_POSITIVE, 1e300, f64::INFINITY] {
            for shape in [Shape::Circle { radius: length }, Shape::Box { width: length, height: length }] {
                let ranges = Search { center: PALERMO, shape }.score_ranges();
                assert!((1..=9).contains(&ranges.len()));
            }
        }
    }

    fn anywhere() -> impl Strategy<Value = Position> {
        (-180.0..=180.0, -85.0..=85.0).prop_map(|(longitude, latitude)| Position { longitude, latitude })
    }

    proptest! {
        #[test]
        fn a_score_keeps_the_position_to_less_than_a_metre(position in anywhere()) {
            prop_assert!(position.distance(stored(position)) < 0.6);
            prop_assert_eq!(stored(position).score(), position.score());
        }

        /// Towards the poles Redis's cells may miss a part of a large shape; so these stay clear of them.
        #[test]
        fn the_ranges_hold_all_that_is_in_the_shape(
            longitude in -150.0..150.0, latitude in -50.0..50.0, reach in 1.0..5.5,
            offsets in proptest::collection::vec((-1.0..1.0, -1.0..1.0), 50), circle: bool,
        ) {
            let length = 10_f64.powf(reach);
            let shape = if circle { Shape::Circle { radius: length } } else { Shape::Box { width: length, height: length } };
            let search = Search { center: Position { longitude, latitude }, shape };
            let ranges = search.score_ranges();
            for (east, north) in offsets {
                let around = degrees(length / EARTH_RADIUS);
                let position =
                    stored(Position { longitude: longitude + 2.0 * east * around, latitude: latitude + north * around });
                let score = position.score() as f64;
                let in_ranges = ranges.iter().filter(|(first, last)| (*first..*last).contains(&score)).count();
                prop_assert!(in_ranges <= 1);
                prop_assert!(in_ranges == 1 || search.distance_within(position).is_none());
            }
        }
    }
}
