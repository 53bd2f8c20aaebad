//! Positions on the earth, kept as sorted sets whose scores are geohashes.

use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::command::spec::*;
use crate::commands::zset::{self, AddOptions};
use crate::keyspace::Key;
use crate::resp::reply::Reply;
use redstart_types::geo::{self, Position, Search, Shape, Unit};
use redstart_types::number;
use redstart_types::zset::{Entry, Order, Range, ScoreBound, ZSet};

const READS: &[KeySpec] = &[KeySpec::at(1).flags(KEY_RO | KEY_ACCESS)];

/// The family's table.
pub const COMMANDS: &[Command] = &[
    Command::new("geoadd", -5, geoadd)
        .flags(WRITE | DENYOOM)
        .acl(acl::GEO)
        .keys(&[KeySpec::at(1).flags(KEY_RW | KEY_UPDATE)])
        .since("3.2.0"),
    Command::new("geodist", -4, geodist).flags(READONLY).acl(acl::GEO).keys(READS).since("3.2.0"),
    Command::new("geohash", -2, geohash).flags(READONLY).acl(acl::GEO).keys(READS).since("3.2.0"),
    Command::new("geopos", -2, geopos).flags(READONLY).acl(acl::GEO).keys(READS).since("3.2.0"),
    Command::new("georadius", -6, georadius)
        .flags(WRITE | DENYOOM | MOVABLEKEYS)
        .acl(acl::GEO)
        .keys(&[
            KeySpec::at(1).flags(KEY_RO | KEY_ACCESS),
            KeySpec::after("STORE", 6).flags(KEY_OW | KEY_UPDATE),
            KeySpec::after("STOREDIST", 6).flags(KEY_OW | KEY_UPDATE),
        ])
        .find_keys(|argv, each| radius_keys(argv, 6, each))
        .since("3.2.0"),
    Command::new("georadius_ro", -6, georadius_ro).flags(READONLY).acl(acl::GEO).keys(READS).since("3.2.10"),
    Command::new("georadiusbymember", -5, georadiusbymember)
        .flags(WRITE | DENYOOM | MOVABLEKEYS)
        .acl(acl::GEO)
        .keys(&[
            KeySpec::at(1).flags(KEY_RO | KEY_ACCESS),
            KeySpec::after("STORE", 5).flags(KEY_OW | KEY_UPDATE),
            KeySpec::after("STOREDIST", 5).flags(KEY_OW | KEY_UPDATE),
        ])
        .find_keys(|argv, each| radius_keys(argv, 5, each))
        .since("3.2.0"),
    Command::new("georadiusbymember_ro", -5, georadiusbymember_ro)
        .flags(READONLY)
        .acl(acl::GEO)
        .keys(READS)
        .since("3.2.10"),
    Command::new("geosearch", -7, geosearch).flags(READONLY).acl(acl::GEO).keys(READS).since("6.2.0"),
    Command::new("geosearchstore", -8, geosearchstore)
        .flags(WRITE | DENYOOM)
        .acl(acl::GEO)
        .keys(&[KeySpec::at(1).flags(KEY_OW | KEY_UPDATE), KeySpec::at(2).flags(KEY_RO | KEY_ACCESS)])
        .since("6.2.0"),
];

/// The keys of GEORADIUS and GEORADIUSBYMEMBER, whose options begin at `options`: the one to search, and whatever a STORE
/// or STOREDIST names. The key specs find only the first of these; the last is the one that counts.
fn radius_keys(argv: &[&[u8]], options: usize, each: &mut dyn FnMut(usize, u16)) {
    if argv.len() > 1 {
        each(1, KEY_RO | KEY_ACCESS);
    }
    let mut at = options;
    while at + 1 < argv.len() {
        let is_store = ["STORE", "STOREDIST"].iter().any(|word| argv[at].eq_ignore_ascii_case(word.as_bytes()));
        if is_store {
            each(at + 1, KEY_OW | KEY_UPDATE);
        }
        at += 1 + usize::from(is_store);
    }
}

const NO_MEMBER: CmdError = CmdError::Text("ERR could not decode requested zset member");

/// `GEOADD key [NX | XX] [CH] longitude latitude member [longitude latitude member ...]`: integer reply, how many
/// members were added (with CH: added or moved). The log gets the ZADD it comes to. Source: Redis 7.2 GEOADD.
fn geoadd(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let mut options = AddOptions::default();
    while let Some(word) = args.one_of(&["NX", "XX", "CH"]) {
        match word {
            0 => options.nx = true,
            1 => options.xx = true,
            _ => options.ch = true,
        }
    }
    if args.is_empty() || !args.remaining().is_multiple_of(3) || (options.nx && options.xx) {
        return Err(CmdError::Syntax);
    }
    let mut scored = Vec::with_capacity(args.remaining() / 3);
    while !args.is_empty() {
        let score = position(args)?.score();
        scored.push((score, args.bytes()?));
    }
    let added: Vec<_> = scored.iter().map(|(score, member)| (*score as f64, *member)).collect();
    let dirty = ctx.db.effects.dirty;
    zset::add_scored(ctx, key, options, &added)?;
    if ctx.db.effects.recording && ctx.db.effects.dirty > dirty {
        propagate_zadd(ctx, key, options, &scored);
    }
    Ok(())
}

fn propagate_zadd(ctx: &mut Ctx, key: Key<'_>, options: AddOptions, scored: &[(u64, &[u8])]) {
    let scores: Vec<_> = scored.iter().map(|(score, _)| score.to_string()).collect();
    let mut argv: Vec<&[u8]> = vec![b"zadd", key.bytes];
    for (is_given, word) in [(options.nx, &b"NX"[..]), (options.xx, b"XX"), (options.ch, b"CH")] {
        argv.extend(is_given.then_some(word));
    }
    argv.extend(scores.iter().zip(scored).flat_map(|(score, (_, member))| [score.as_bytes(), member]));
    ctx.propagate_as(&argv);
}

/// `GEODIST key member1 member2 [M | KM | FT | MI]`: bulk string, the distance with four digits behind the point, or
/// null when a member is missing. Source: Redis 7.2 GEODIST.
fn geodist(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let members = (args.bytes()?, args.bytes()?);
    if args.remaining() > 1 {
        return Err(CmdError::Syntax);
    }
    let unit = if args.is_empty() { Unit::Metres } else { unit(args)? };
    let zset = ctx.db.read_as::<ZSet>(key)?;
    let positions = zset.and_then(|zset| Some((member_position(zset, members.0)?, member_position(zset, members.1)?)));
    match positions {
        Some((from, to)) => ctx.reply.bulk(geo::distance_text(from.distance(to) / unit.metres()).as_bytes()),
        None => ctx.reply.null(),
    }
    Ok(())
}

/// `GEOHASH key [member ...]`: an array of geohashes of 11 letters, null for members that are missing.
/// Source: Redis 7.2 GEOHASH.
fn geohash(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let zset = ctx.db.read_as::<ZSet>(args.key()?)?;
    ctx.reply.array(args.remaining());
    for member in args.rest() {
        match zset.and_then(|zset| member_position(zset, member)) {
            Some(position) => ctx.reply.bulk(&position.geohash()),
            None => ctx.reply.null(),
        }
    }
    Ok(())
}

/// `GEOPOS key [member ...]`: an array of longitude and latitude for each member, a null array for those that are
/// missing. Source: Redis 7.2 GEOPOS.
fn geopos(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let zset = ctx.db.read_as::<ZSet>(args.key()?)?;
    ctx.reply.array(args.remaining());
    for member in args.rest() {
        match zset.and_then(|zset| member_position(zset, member)) {
            Some(position) => reply_position(ctx.reply, position),
            None => ctx.reply.null_array(),
        }
    }
    Ok(())
}

/// `GEOSEARCH key FROMMEMBER member | FROMLONLAT longitude latitude BYRADIUS radius unit | BYBOX width height unit
/// [ASC | DESC] [COUNT count [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH]`: an array of members; with options an array of
/// arrays of member, distance, hash and coordinates. Source: Redis 7.2 GEOSEARCH.
fn geosearch(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    search(ctx, args, key, Form::default(), None)
}

/// `GEOSEARCHSTORE dst src` and GEOSEARCH's options without WITH..., `[STOREDIST]`: integer reply, how many members
/// `dst` has now, with their hashes or distances as scores. Source: Redis 7.2 GEOSEARCHSTORE.
fn geosearchstore(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let (destination, key) = (args.key()?, args.key()?);
    search(ctx, args, key, Form::default(), Some(destination))
}

/// `GEORADIUS key longitude latitude radius unit [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC]
/// [STORE key | STOREDIST key]`: as GEOSEARCH and GEOSEARCHSTORE. Source: Redis 7.2 GEORADIUS.
fn georadius(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    search(ctx, args, key, Form { from: From::Position, takes_store: true }, None)
}

/// `GEORADIUS_RO`: as GEORADIUS without STORE. Source: Redis 7.2 GEORADIUS_RO.
fn georadius_ro(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    search(ctx, args, key, Form { from: From::Position, takes_store: false }, None)
}

/// `GEORADIUSBYMEMBER key member radius unit ...`: as GEORADIUS. Source: Redis 7.2 GEORADIUSBYMEMBER.
fn georadiusbymember(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    search(ctx, args, key, Form { from: From::Member, takes_store: true }, None)
}

/// `GEORADIUSBYMEMBER_RO`: as GEORADIUSBYMEMBER without STORE. Source: Redis 7.2 GEORADIUSBYMEMBER_RO.
fn georadiusbymember_ro(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    search(ctx, args, key, Form { from: From::Member, takes_store: false }, None)
}

/// Where a command's centre stands.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum From {
    /// In the options, with the shape.
    #[default]
    Options,
    /// In front, as longitude and latitude, and a radius behind it.
    Position,
    /// In front, as a member, and a radius behind it.
    Member,
}

/// What the commands that search differ in.
#[derive(Clone, Copy, Default)]
struct Form {
    from: From,
    /// Whether STORE and STOREDIST name a key.
    takes_store: bool,
}

/// What a search was asked for.
struct Request<'a> {
    /// `None` also when it was a member and there is no key.
    center: Option<Position>,
    has_center: bool,
    shape: Option<Shape>,
    unit: Unit,
    with_distance: bool,
    with_hash: bool,
    with_position: bool,
    order: Option<Order>,
    /// 0 for all.
    count: usize,
    any: bool,
    store: Option<Key<'a>>,
    store_distance: bool,
}

/// One member found.
struct Found<'z> {
    entry: Entry<'z>,
    position: Position,
    /// From the centre, in the unit asked for.
    distance: f64,
}

fn search<'a>(ctx: &mut Ctx, args: &mut Args<'a>, key: Key<'_>, form: Form, destination: Option<Key<'a>>) -> CmdResult {
    let limits = zset::limits(ctx);
    let zset = ctx.db.read_as::<ZSet>(key)?;
    let request = Request::parse(args, zset, form, destination)?;
    let found = zset.map_or_else(Vec::new, |zset| request.run(zset));
    let Some(store) = request.store else {
        request.reply(ctx.reply, &found);
        return Ok(());
    };
    let longest = found.iter().map(|found| found.entry.member.text_len()).max().unwrap_or(0);
    let mut result = ZSet::for_members(found.len(), longest, &limits);
    let mut digits = itoa::Buffer::new();
    for found in &found {
        let score = if request.store_distance { found.distance } else { found.entry.score };
        result.insert(found.entry.member.text(&mut digits), score, &limits);
    }
    let event = if destination.is_some() { "geosearchstore" } else { "georadiusstore" };
    let dirty = result.len();
    zset::store(ctx, store, result, dirty, event)
}

impl<'a> Request<'a> {
    /// Reads everything behind the key. Members are looked up in `zset` on the way, as Redis does.
    fn parse(args: &mut Args<'a>, zset: Option<&ZSet>, form: Form, destination: Option<Key<'a>>) -> CmdResult<Self> {
        let mut request = Self {
            center: None,
            has_center: form.from != From::Options,
            shape: None,
            unit: Unit::Metres,
            with_distance: false,
            with_hash: false,
            with_position: false,
            order: None,
            count: 0,
            any: false,
            store: destination,
            store_distance: false,
        };
        match form.from {
            From::Options => {}
            From::Position => {
                request.center = Some(position(args)?);
                request.parse_radius(args)?;
            }
            From::Member => request.parse_member_and_radius(args, zset)?,
        }
        let (mut has_position, mut has_member) = (false, false);
        while !args.is_empty() {
            if request.parse_output(args)? || (form.takes_store && request.parse_store(args)?) {
                continue;
            }
            let remaining = args.remaining();
            let is_search = form.from == From::Options;
            if is_search && destination.is_some() && args.flag("STOREDIST") {
                request.store_distance = true;
            } else if is_search && remaining >= 2 && !has_position && args.flag("FROMMEMBER") {
                request.parse_member(args, zset)?;
                has_member = true;
            } else if is_search && remaining >= 3 && !has_member && args.flag("FROMLONLAT") {
                request.center = Some(position(args)?);
                has_position = true;
            } else if is_search && remaining >= 3 && !request.is_box() && args.flag("BYRADIUS") {
                request.parse_radius(args)?;
            } else if is_search && remaining >= 4 && !request.is_circle() && args.flag("BYBOX") {
                request.parse_box(args)?;
            } else {
                return Err(CmdError::Syntax);
            }
        }
        request.has_center |= has_position || has_member;
        request.check(args, form, destination)?;
        Ok(request)
    }

    /// Takes an option about the reply; whether there was one.
    fn parse_output(&mut self, args: &mut Args) -> CmdResult<bool> {
        if args.remaining() >= 2 && args.flag("COUNT") {
            let count = args.int()?;
            let count = usize::try_from(count).ok().filter(|count| *count > 0);
            self.count = count.ok_or(CmdError::Text("ERR COUNT must be > 0"))?;
            return Ok(true);
        }
        match args.one_of(&["WITHDIST", "WITHHASH", "WITHCOORD", "ANY", "ASC", "DESC"]) {
            Some(0) => self.with_distance = true,
            Some(1) => self.with_hash = true,
            Some(2) => self.with_position = true,
            Some(3) => self.any = true,
            Some(4) => self.order = Some(Order::Ascending),
            Some(_) => self.order = Some(Order::Descending),
            None => return Ok(false),
        }
        Ok(true)
    }

    /// Takes STORE or STOREDIST with its key; whether there was one.
    fn parse_store(&mut self, args: &mut Args<'a>) -> CmdResult<bool> {
        if args.remaining() < 2 {
            return Ok(false);
        }
        let Some(word) = args.one_of(&["STORE", "STOREDIST"]) else { return Ok(false) };
        self.store = Some(args.key()?);
        self.store_distance = word == 1;
        Ok(true)
    }

    fn parse_member(&mut self, args: &mut Args, zset: Option<&ZSet>) -> CmdResult {
        let member = args.bytes()?;
        if let Some(zset) = zset {
            self.center = Some(member_position(zset, member).ok_or(NO_MEMBER)?);
        }
        Ok(())
    }

    /// Without a key Redis does not read these arguments at all.
    fn parse_member_and_radius(&mut self, args: &mut Args, zset: Option<&ZSet>) -> CmdResult {
        self.parse_member(args, zset)?;
        if zset.is_some() {
            return self.parse_radius(args);
        }
        args.bytes()?;
        args.bytes()?;
        Ok(())
    }

    fn parse_radius(&mut self, args: &mut Args) -> CmdResult {
        let radius = length(args, "ERR need numeric radius")?;
        if radius < 0.0 {
            return Err(CmdError::Text("ERR radius cannot be negative"));
        }
        self.unit = unit(args)?;
        self.shape = Some(Shape::Circle { radius: radius * self.unit.metres() });
        Ok(())
    }

    fn parse_box(&mut self, args: &mut Args) -> CmdResult {
        let width = length(args, "ERR need numeric width")?;
        let height = length(args, "ERR need numeric height")?;
        if width < 0.0 || height < 0.0 {
            return Err(CmdError::Text("ERR height or width cannot be negative"));
        }
        self.unit = unit(args)?;
        let metres = self.unit.metres();
        self.shape = Some(Shape::Box { width: width * metres, height: height * metres });
        Ok(())
    }

    fn check(&self, args: &Args, form: Form, destination: Option<Key<'_>>) -> CmdResult {
        if self.store.is_some() && (self.with_distance || self.with_hash || self.with_position) {
            return Err(CmdError::Text(if destination.is_some() {
                "ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            } else {
                "ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            }));
        }
        let name = args.argv()[0];
        if !self.has_center {
            let text = "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {}";
            return Err(CmdError::quoting(text, &[name]));
        }
        if form.from == From::Options && self.shape.is_none() {
            return Err(CmdError::quoting("ERR exactly one of BYRADIUS and BYBOX can be specified for {}", &[name]));
        }
        if self.any && self.count == 0 {
            return Err(CmdError::Text("ERR the ANY argument requires COUNT argument"));
        }
        Ok(())
    }

    fn is_circle(&self) -> bool {
        matches!(self.shape, Some(Shape::Circle { .. }))
    }

    fn is_box(&self) -> bool {
        matches!(self.shape, Some(Shape::Box { .. }))
    }

    /// The members found, sorted and cut off as asked.
    fn run<'z>(&self, zset: &'z ZSet) -> Vec<Found<'z>> {
        let (Some(center), Some(shape)) = (self.center, self.shape) else { return Vec::new() };
        let stop_at = if self.any { self.count } else { usize::MAX };
        let mut found = self.found_by(&Search { center, shape }, zset, stop_at);
        // The nearest ones are meant by a count without an order.
        let nearest = (self.count > 0 && !self.any).then_some(Order::Ascending);
        match self.order.or(nearest) {
            Some(Order::Ascending) => found.sort_by(|a, b| a.distance.total_cmp(&b.distance)),
            Some(Order::Descending) => found.sort_by(|a, b| b.distance.total_cmp(&a.distance)),
            None => {}
        }
        if self.count > 0 {
            found.truncate(self.count);
        }
        found
    }

    fn found_by<'z>(&self, search: &Search, zset: &'z ZSet, stop_at: usize) -> Vec<Found<'z>> {
        let metres = self.unit.metres();
        let mut found = Vec::new();
        for (first, last) in search.score_ranges() {
            let range = Range::Scores(ScoreBound::inclusive(first), ScoreBound { score: last, exclusive: true });
            let entries = zset.entries(&range, Order::Ascending, 0, usize::MAX);
            let inside = entries.filter_map(|entry| {
                let position = Position::from_score(entry.score);
                search.distance_within(position).map(|distance| Found { entry, position, distance: distance / metres })
            });
            found.extend(inside.take(stop_at - found.len()));
        }
        found
    }

    fn reply(&self, reply: &mut Reply, found: &[Found<'_>]) {
        let options = [self.with_distance, self.with_hash, self.with_position].into_iter().filter(|on| *on).count();
        reply.array(found.len());
        for found in found {
            if options > 0 {
                reply.array(options + 1);
            }
            zset::bulk(reply, found.entry.member);
            if self.with_distance {
                reply.bulk(geo::distance_text(found.distance).as_bytes());
            }
            if self.with_hash {
                reply.integer(found.entry.score as i64);
            }
            if self.with_position {
                reply_position(reply, found.position);
            }
        }
    }
}

/// Reads a longitude and a latitude.
fn position(args: &mut Args) -> CmdResult<Position> {
    let position = Position { longitude: args.float()?, latitude: args.float()? };
    if !position.is_valid() {
        let Position { longitude, latitude } = position;
        return Err(CmdError::owned(format!("ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}")));
    }
    Ok(position)
}

fn unit(args: &mut Args) -> CmdResult<Unit> {
    Unit::parse(args.bytes()?).ok_or(CmdError::Text("ERR unsupported unit provided. please use M, KM, FT, MI"))
}

fn length(args: &mut Args, error: &'static str) -> CmdResult<f64> {
    number::parse_double(args.bytes()?).ok_or(CmdError::Text(error))
}

fn member_position(zset: &ZSet, member: &[u8]) -> Option<Position> {
    zset.score(member).map(Position::from_score)
}

/// An array of longitude and latitude: bulk strings, in RESP3 doubles of the same digits.
fn reply_position(reply: &mut Reply, position: Position) {
    reply.array(2);
    for degrees in [position.longitude, position.latitude] {
        let text = geo::coordinate_text(degrees);
        if reply.resp3 { reply.raw(format!(",{text}\r\n").as_bytes()) } else { reply.bulk(text.as_bytes()) }
    }
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Checker;

    fn sicily() -> Checker {
        let mut c = Checker::new();
        c.check("GEOADD s 13.361389 38.115556 Palermo 15.087269 37.502669 Catania", ":2");
        c.check("GEOADD s 12.758489 38.788135 edge1 17.241510 38.788135 edge2", ":2");
        c
    }

    #[test]
    fn geoadd() {
        let mut c = sicily();
        c.check("ZSCORE s Palermo", "\"3479099956230698\"");
        c.check("GEOADD s CH 13 38 Palermo 1 1 new", ":2");
        c.check("GEOADD s NX 1 2 Palermo", ":0");
        c.check("GEOADD s XX 1 2 nobody", ":0");
        c.check("GEOADD s NX XX 1 2 a", "-ERR syntax error");
        c.check("GEOADD s 1 2 a 3", "-ERR syntax error");
        c.check("GEOADD s 1 x a", "-ERR value is not a valid float");
        c.check("GEOADD s 200 0 a", "-ERR invalid longitude,latitude pair 200.000000,0.000000");
        c.check("GEOADD s 0 86 a", "-ERR invalid longitude,latitude pair 0.000000,86.000000");
        c.check("SET t x", "OK");
        c.check("GEOADD t 1 2 a", "-WRONGTYPE Operation against a key holding the wrong kind of value");
    }

    #[test]
    fn geodist() {
        let mut c = sicily();
        c.check("GEODIST s Palermo Catania", "\"166274.1516\"");
        c.check("GEODIST s Palermo Catania km", "\"166.2742\"");
        c.check("GEODIST s Palermo Catania MI", "\"103.3182\"");
        c.check("GEODIST s Palermo Palermo", "\"0.0000\"");
        c.check("GEODIST s Palermo nobody", "nil");
        c.check("GEODIST none a b", "nil");
        c.check("GEODIST s a b yards", "-ERR unsupported unit provided. please use M, KM, FT, MI");
        c.check("GEODIST s a b m m", "-ERR syntax error");
    }

    #[test]
    fn geohash_and_geopos() {
        let mut c = sicily();
        c.check("GEOHASH s Palermo nobody Catania", "[\"sqc8b49rny0\", nil, \"sqdtr74hyu0\"]");
        c.check("GEOPOS s Palermo nobody", "[[\"13.36138933897018433\", \"38.11555639549629859\"], nil]");
        c.check("GEOHASH none a", "[nil]");
        c.check("GEOPOS none a", "[nil]");
        c.check("GEOPOS s", "[]");
        c.run("HELLO 3");
        c.check("GEOPOS s Palermo", "[[,13.36138933897018433, ,38.11555639549629859]]");
    }

    #[test]
    fn geosearch() {
        let mut c = sicily();
        c.check("GEOSEARCH s FROMLONLAT 15 37 BYRADIUS 200 km ASC", "[\"Catania\", \"Palermo\"]");
        c.check(
            "GEOSEARCH s FROMLONLAT 15 37 BYBOX 400 400 km ASC WITHDIST",
            "[[\"Catania\", \"56.4413\"], [\"Palermo\", \"190.4424\"], [\"edge2\", \"279.7403\"], [\"edge1\", \"279.7405\"]]",
        );
        c.check("GEOSEARCH s FROMMEMBER Palermo BYRADIUS 1 m WITHHASH", "[[\"Palermo\", :3479099956230698]]");
        c.check("GEOSEARCH s FROMLONLAT 15 37 BYRADIUS 300 km COUNT 1", "[\"Catania\"]");
        c.check("GEOSEARCH s FROMLONLAT 15 37 BYRADIUS 300 km COUNT 1 DESC", "[\"edge1\"]");
        c.check("GEOSEARCH s FROMLONLAT 15 37 BYRADIUS 1 m", "[]");
        c.check("GEOSEARCH none FROMMEMBER a BYRADIUS 1 m", "[]");
        c.check(
            "GEOSEARCH s FROMMEMBER Palermo BYRADIUS 0 m WITHCOORD WITHDIST",
            "[[\"Palermo\", \"0.0000\", [\"13.36138933897018433\", \"38.11555639549629859\"]]]",
        );
        let any = c.run("GEOSEARCH s FROMLONLAT 15 37 BYRADIUS 300 km COUNT 2 ANY");
        assert_eq!(any.split(", ").count(), 2);
    }

    #[test]
    fn geosearch_refuses() {
        let mut c = sicily();
        let member = "-ERR could not decode requested zset member";
        c.check("GEOSEARCH s FROMMEMBER nobody BYRADIUS 1 m", member);
        c.check("GEOSEARCH s FROMLONLAT 1 1 FROMMEMBER Palermo BYRADIUS 1 m", "-ERR syntax error");
        c.check("GEOSEARCH s FROMLONLAT 1 1 BYRADIUS 1 m BYBOX 1 1 m", "-ERR syntax error");
        c.check("GEOSEARCH s FROMLONLAT 1 1 BYRADIUS 1 m STORE x", "-ERR syntax error");
        c.check(
            "GEOSEARCH s FROMLONLAT 1 1 ASC WITHDIST WITHHASH",
            "-ERR exactly one of BYRADIUS and BYBOX can be specified for GEOSEARCH",
        );
        c.check(
            "GEOSEARCH s BYRADIUS 1 m ASC WITHDIST",
            "-ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for GEOSEARCH",
        );
        c.check("GEOSEARCH s FROMLONLAT 1 1 BYRADIUS x m", "-ERR need numeric radius");
        c.check("GEOSEARCH s FROMLONLAT 1 1 BYRADIUS -1 m", "-ERR radius cannot be negative");
        c.check("GEOSEARCH s FROMLONLAT 1 1 BYBOX x 1 m", "-ERR need numeric width");
        c.check("GEOSEARCH s FROMLONLAT 1 1 BYBOX 1 x m", "-ERR need numeric height");
        c.check("GEOSEARCH s FROMLONLAT 1 1 BYBOX 1 -1 m", "-ERR height or width cannot be negative");
        c.check("GEOSEARCH s FROMLONLAT 1 1 BYRADIUS 1 m COUNT 0", "-ERR COUNT must be > 0");
        c.check("GEOSEARCH s FROMLONLAT 1 1 BYRADIUS 1 m ANY", "-ERR the ANY argument requires COUNT argument");
    }

    #[test]
    fn geosearchstore() {
        let mut c = sicily();
        c.check("GEOSEARCHSTORE d{s} s FROMLONLAT 15 37 BYRADIUS 200 km", ":2");
        c.check(
            "ZRANGE d{s} 0 -1 WITHSCORES",
            "[\"Palermo\", \"3479099956230698\", \"Catania\", \"3479447370796909\"]",
        );
        c.check("GEOSEARCHSTORE d{s} s FROMMEMBER Palermo BYRADIUS 1 m STOREDIST", ":1");
        c.check("ZRANGE d{s} 0 -1 WITHSCORES", "[\"Palermo\", \"0\"]");
        c.check("GEOSEARCHSTORE d{s} s FROMLONLAT 0 0 BYRADIUS 1 m", ":0");
        c.check("EXISTS d{s}", ":0");
        c.check("GEOSEARCHSTORE d{s} none FROMMEMBER a BYRADIUS 1 m", ":0");
        c.check(
            "GEOSEARCHSTORE d{s} s FROMLONLAT 0 0 BYRADIUS 1 m WITHDIST",
            "-ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options",
        );
    }

    #[test]
    fn georadius() {
        let mut c = sicily();
        c.check("GEORADIUS s 15 37 200 km DESC", "[\"Palermo\", \"Catania\"]");
        c.check("GEORADIUS_RO s 15 37 200 km WITHDIST COUNT 1", "[[\"Catania\", \"56.4413\"]]");
        c.check("GEORADIUS_RO s 15 37 200 km STORE d{s}", "-ERR syntax error");
        c.check("GEORADIUS s 15 37 200 km STORE d{s}", ":2");
        c.check("GEORADIUS s 15 37 200 km STOREDIST d{s} COUNT 1", ":1");
        c.check("ZRANGE d{s} 0 -1", "[\"Catania\"]");
        c.check(
            "GEORADIUS s 15 37 200 km STORE d{s} WITHDIST",
            "-ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options",
        );
        c.check("GEORADIUS none 15 37 200 km", "[]");
    }

    #[test]
    fn georadiusbymember() {
        let mut c = sicily();
        c.check("GEORADIUSBYMEMBER s Palermo 100 km", "[\"Palermo\", \"edge1\"]");
        c.check("GEORADIUSBYMEMBER_RO s Palermo 100 km DESC", "[\"edge1\", \"Palermo\"]");
        c.check("GEORADIUSBYMEMBER s nobody 100 km", "-ERR could not decode requested zset member");
        c.check("GEORADIUSBYMEMBER none a x y", "[]");
        c.check("GEORADIUSBYMEMBER s Palermo 100 km STORE d{s}", ":2");
        c.check("GEORADIUSBYMEMBER none a 1 m STORE d{s}", ":0");
        c.check("EXISTS d{s}", ":0");
    }

    /// As Redis 7.2.6 writes its AOF.
    #[test]
    fn the_log_gets_zadd() {
        let mut c = Checker::new();
        let log = c.record();
        c.check("GEOADD g CH 13.361389 38.115556 P", ":1");
        c.check("GEOADD g NX 13.361389 38.115556 P", ":0");
        c.check("GEOADD g NX CH 1 2 Q 3 4 R", ":2");
        c.check("GEOSEARCHSTORE {g}2 g FROMLONLAT 13 38 BYRADIUS 200 km", ":1");
        assert_eq!(
            log.take(),
            [
                "zadd g CH 3479099956230698 P",
                "zadd g NX CH 3378080408407459 Q 3379626039612548 R",
                "GEOSEARCHSTORE {g}2 g FROMLONLAT 13 38 BYRADIUS 200 km",
            ]
        );
    }
}
