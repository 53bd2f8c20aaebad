//! Certificates of all kinds, made and signed as choices have it, and OpenSSL's verdict on them.

use crate::choices::Choices;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::{MessageDigest, hash};
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::sign::Signer;
use openssl::stack::Stack;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::X509VerifyParam;
use openssl::x509::{X509, X509PurposeId, X509StoreContext};
use std::collections::BTreeSet;

/// Unix time at which everything is judged: 2030.
pub const NOW_S: i64 = 1_893_456_000;

/// Certificates, DER, and who has which of them.
#[derive(Debug, Clone)]
pub struct World {
    pub trusted: Vec<Vec<u8>>,
    pub sent: Vec<Vec<u8>>,
    pub shown: Vec<u8>,
    /// Shown by a client; otherwise by a server.
    pub is_client: bool,
    /// Bytes have been changed that are not made by the rules: OpenSSL reads some things that are not DER.
    pub is_damaged: bool,
}

/// The keys that certificates are signed with.
pub struct Keys(Vec<PKey<Private>>);

impl Keys {
    pub fn new() -> Keys {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("a known curve");
        let key = || PKey::from_ec_key(EcKey::generate(&group).expect("a key")).expect("a key");
        Keys((0..3).map(|_| key()).collect())
    }
}

impl Default for Keys {
    fn default() -> Self {
        Keys::new()
    }
}

/// What later certificates need to know of an earlier one.
struct Made {
    der: Vec<u8>,
    name: Vec<u8>,
    issuer: Vec<u8>,
    serial: u8,
    key: usize,
}

impl World {
    pub fn new(choices: &mut Choices<'_>, keys: &Keys) -> World {
        let is_client = !choices.chance(64);
        let mut all: Vec<Made> = Vec::new();
        let count = 2 + choices.below(4);
        for index in 0..count {
            let made = make(choices, keys, &all, index + 1 == count);
            all.push(made);
        }
        // The first is an authority unless that is chosen otherwise.
        let trusted = choices.byte() ^ 1;
        let sent = choices.byte() ^ 0xfe;
        let chosen = |mask: u8| {
            all.iter().enumerate().filter(move |(index, _)| mask >> index & 1 == 1).map(|(_, made)| made.der.clone())
        };
        let mut world = World {
            trusted: chosen(trusted).collect(),
            sent: chosen(sent).collect(),
            shown: all[all.len() - 1].der.clone(),
            is_client,
            is_damaged: choices.chance(20),
        };
        if world.is_damaged {
            let count = world.sent.len() + 1;
            let at = choices.below(count);
            let damaged = world.sent.get_mut(at).unwrap_or(&mut world.shown);
            let position = choices.below(damaged.len());
            damaged[position] ^= choices.byte() | 1;
        }
        world
    }

    /// Whether OpenSSL trusts what is shown.
    pub fn is_trusted_by_openssl(&self) -> bool {
        let Ok(shown) = X509::from_der(&self.shown) else { return false };
        let mut store = X509StoreBuilder::new().expect("memory");
        for certificate in self.trusted.iter().filter_map(|der| X509::from_der(der).ok()) {
            store.add_cert(certificate).expect("memory");
        }
        let mut rules = X509VerifyParam::new().expect("memory");
        rules.set_time(NOW_S);
        rules.set_auth_level(2);
        let purpose = if self.is_client { X509PurposeId::SSL_CLIENT } else { X509PurposeId::SSL_SERVER };
        rules.set_purpose(purpose).expect("a known purpose");
        store.set_param(&rules).expect("it is whole");
        let store = store.build();
        let mut others = Stack::new().expect("memory");
        for certificate in self.sent.iter().filter_map(|der| X509::from_der(der).ok()) {
            others.push(certificate).expect("memory");
        }
        let mut context = X509StoreContext::new().expect("memory");
        context.init(&store, &shown, &others, |context| context.verify_cert()).unwrap_or(false)
    }

    /// Whether several certificates have one name: of those that might have issued another one OpenSSL tries the first only.
    pub fn has_namesakes(&self) -> bool {
        let readable = |der: &Vec<u8>| X509::from_der(der).ok().map(|x| (x.subject_name_hash(), der.clone()));
        let all: BTreeSet<(u32, Vec<u8>)> = self.trusted.iter().chain(&self.sent).filter_map(readable).collect();
        let names: BTreeSet<u32> = all.iter().map(|(name, _)| *name).collect();
        names.len() < all.len()
    }

    /// The certificates as PEM, to look at.
    pub fn show(&self) -> String {
        let pem = |der: &Vec<u8>| {
            X509::from_der(der)
                .and_then(|x| x.to_text())
                .map_or("unreadable".into(), |t| String::from_utf8_lossy(&t).into_owned())
        };
        let list = |all: &[Vec<u8>]| all.iter().map(pem).collect::<Vec<_>>().join("\n");
        format!("TRUSTED\n{}\nSENT\n{}\nSHOWN\n{}", list(&self.trusted), list(&self.sent), pem(&self.shown))
    }
}

fn make(choices: &mut Choices<'_>, keys: &Keys, all: &[Made], is_last: bool) -> Made {
    let serial = all.len() as u8 + 1;
    // By default each comes from the one before it, the first from itself.
    let parent = match choices.byte() {
        0..=199 => all.last(),
        200..=230 => None,
        other => all.get(usize::from(other) % (all.len() + 1)),
    };
    let key = if choices.chance(40) { choices.below(3) } else { all.len() % 3 };
    let name = match choices.byte() {
        0..=220 => name(choices, all.len()),
        221..=235 => name(choices, 0),
        _ => seq(&[]),
    };
    let (mut issuer, signer) = parent.map_or((name.clone(), key), |parent| (parent.name.clone(), parent.key));
    let signer = if choices.chance(8) { choices.below(3) } else { signer };
    if choices.chance(8) {
        issuer = self::name(choices, 1);
    }
    let version = choices.byte();
    let (parent_key, parent_issuer, parent_serial) =
        parent.map_or((key, issuer.clone(), serial), |parent| (parent.key, parent.issuer.clone(), parent.serial));
    let extensions = match version {
        200..=235 => None,
        _ => Some(extensions(choices, keys, is_last, key, parent_key, &parent_issuer, parent_serial)),
    };
    let mut fields = Vec::new();
    match version {
        0..=199 => fields.push(tlv(0xa0, &[2, 1, 2])),
        200..=225 | 236..=240 => {}
        _ => fields.push(tlv(0xa0, &[2, 1, 1])),
    }
    let algorithm = seq(&[tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2])]);
    let other_algorithm = seq(&[tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3])]);
    let inner = if choices.chance(4) { &other_algorithm } else { &algorithm };
    fields.extend([tlv(2, &[serial]), inner.clone(), issuer.clone(), validity(choices), name.clone()]);
    fields.push(keys.0[key].public_key_to_der().expect("a key"));
    fields.extend(extensions.filter(|all| all.len() > 2).map(|all| tlv(0xa3, &all)));
    let signed = seq(&fields);
    let mut signer = Signer::new(MessageDigest::sha256(), &keys.0[signer]).expect("a key");
    let mut signature = vec![0];
    signature.extend(signer.sign_oneshot_to_vec(&signed).expect("it signs"));
    let der = seq(&[signed, algorithm, tlv(3, &signature)]);
    Made { der, name, issuer, serial, key }
}

fn validity(choices: &mut Choices<'_>) -> Vec<u8> {
    let time = |text: &str| if text.len() == 13 { tlv(0x17, text.as_bytes()) } else { tlv(0x18, text.as_bytes()) };
    let (from, to) = match choices.byte() {
        0..=215 => ("200101000000Z", "400101000000Z"),
        216..=223 => ("200101000000Z", "210101000000Z"),
        224..=231 => ("310101000000Z", "400101000000Z"),
        232..=237 => ("300101000000Z", "20600101000000Z"),
        238..=243 => ("200101000000Z", "300101000000Z"),
        244..=249 => ("20200101000000Z", "99991231235959Z"),
        _ => ("400101000000Z", "200101000000Z"),
    };
    seq(&[time(from), time(to)])
}

/// A name by number, in one of its spellings.
fn name(choices: &mut Choices<'_>, number: usize) -> Vec<u8> {
    let plain = ["Alpha One", "Beta Two", "www.example.com", "Delta", "Epsilon", "Zeta", "Eta"][number % 7];
    let (tag, text) = match choices.byte() {
        0..=220 => (0x0c, plain.to_owned()),
        221..=226 => (0x13, plain.to_owned()),
        227..=232 => (0x0c, plain.to_ascii_uppercase()),
        233..=238 => (0x0c, format!(" {} ", plain.replace(' ', "   "))),
        239..=243 => (0x16, plain.to_owned()),
        244..=247 => (0x1e, plain.chars().flat_map(|letter| ['\0', letter]).collect()),
        _ => (0x0c, format!("{plain}é")),
    };
    let part = |kind: &[u8], tag: u8, text: &str| seq(&[tlv(6, kind), tlv(tag, text.as_bytes())]);
    let common = part(&[0x55, 4, 3], tag, &text);
    let organization = part(&[0x55, 4, 10], 0x0c, "Example");
    let email = part(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], 0x16, "a@example.com");
    match choices.byte() {
        0..=200 => seq(&[tlv(0x31, &common)]),
        201..=225 => seq(&[tlv(0x31, &organization), tlv(0x31, &common)]),
        226..=240 => seq(&[tlv(0x31, &common), tlv(0x31, &email)]),
        _ => seq(&[tlv(0x31, &[organization, common].concat())]),
    }
}

fn extensions(
    choices: &mut Choices<'_>,
    keys: &Keys,
    is_last: bool,
    key: usize,
    parent_key: usize,
    parent_issuer: &[u8],
    parent_serial: u8,
) -> Vec<u8> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    let mut add = |choices: &mut Choices<'_>, kind: &[u8], value: Vec<u8>| {
        let critical = if choices.chance(90) { tlv(1, &[0xff]) } else { Vec::new() };
        let extension = seq(&[tlv(6, kind), critical, tlv(4, &value)]);
        if choices.chance(3) {
            all.push(extension.clone());
        }
        all.push(extension);
    };
    let truth = || tlv(1, &[0xff]);
    let constraints = match (choices.byte(), is_last) {
        (0..=180, true) => None,
        (0..=180, false) => Some(seq(&[truth()])),
        (181..=195, _) => None,
        (196..=215, _) => Some(seq(&[])),
        (216..=228, _) => Some(seq(&[truth(), tlv(2, &[0])])),
        (229..=240, _) => Some(seq(&[truth(), tlv(2, &[1])])),
        (241..=245, _) => Some(seq(&[tlv(2, &[0])])),
        (246..=249, _) => Some(seq(&[truth(), tlv(2, &[0xff])])),
        (250..=252, _) => Some(seq(&[truth(), tlv(2, &[2, 0, 0])])),
        _ => Some(tlv(4, &[1])),
    };
    if let Some(value) = constraints {
        add(choices, &[0x55, 0x1d, 0x13], value);
    }
    let usage: Option<&[u8]> = match choices.byte() {
        0..=190 => None,
        191..=205 => Some(&[2, 0x04]),
        206..=215 => Some(&[7, 0x80]),
        216..=222 => Some(&[3, 0x08]),
        223..=229 => Some(&[5, 0x20]),
        230..=238 => Some(&[2, 0x84]),
        239..=242 => Some(&[0]),
        243..=245 => Some(&[7, 0]),
        246..=249 => Some(&[7, 0, 0x80]),
        _ => Some(&[1, 0x06]),
    };
    if let Some(value) = usage {
        add(choices, &[0x55, 0x1d, 0x0f], tlv(3, value));
    }
    let purpose = |number: u8| tlv(6, &[0x2b, 6, 1, 5, 5, 7, 3, number]);
    let extended = match choices.byte() {
        0..=200 => None,
        201..=215 => Some(vec![purpose(2)]),
        216..=225 => Some(vec![purpose(1)]),
        226..=235 => Some(vec![purpose(1), purpose(2)]),
        236..=243 => Some(vec![tlv(6, &[0x55, 0x1d, 0x25, 0])]),
        244..=249 => Some(vec![purpose(4)]),
        250..=252 => Some(vec![tlv(6, &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 10, 3, 3])]),
        _ => Some(vec![]),
    };
    if let Some(all) = extended {
        add(choices, &[0x55, 0x1d, 0x25], seq(&all));
    }
    if choices.chance(24) {
        let kind = choices.byte();
        add(choices, &[0x60, 0x86, 0x48, 1, 0x86, 0xf8, 0x42, 1, 1], tlv(3, &[0, kind]));
    }
    let identifier = |key: usize| {
        let spki = keys.0[key].public_key_to_der().expect("a key");
        hash(MessageDigest::sha1(), &spki).expect("it hashes").to_vec()
    };
    match choices.byte() {
        0..=120 => {}
        121..=240 => add(choices, &[0x55, 0x1d, 0x0e], tlv(4, &identifier(key))),
        _ => add(choices, &[0x55, 0x1d, 0x0e], tlv(4, b"another")),
    }
    let of_issuer = |name: &[u8], serial: u8| [tlv(0xa1, &tlv(0xa4, name)), tlv(0x82, &[serial])].concat();
    let authority = match choices.byte() {
        0..=140 => None,
        141..=220 => Some(tlv(0x80, &identifier(parent_key))),
        221..=230 => Some(of_issuer(parent_issuer, parent_serial)),
        231..=237 => Some(of_issuer(parent_issuer, parent_serial + 1)),
        238..=243 => Some(of_issuer(&name(choices, 2), parent_serial)),
        244..=249 => Some(tlv(0x80, b"unknown")),
        _ => Some(Vec::new()),
    };
    if let Some(value) = authority {
        add(choices, &[0x55, 0x1d, 0x23], tlv(0x30, &value));
    }
    if choices.chance(60) {
        let names: Vec<Vec<u8>> = (0..1 + choices.below(3)).map(|_| general_name(choices, false)).collect();
        add(choices, &[0x55, 0x1d, 0x11], seq(&names));
    }
    if choices.chance(if is_last { 8 } else { 48 }) {
        let value = name_constraints(choices);
        add(choices, &[0x55, 0x1d, 0x1e], value);
    }
    if choices.chance(10) {
        let kind = choices.one_of::<[u8]>(&[
            &[0x55, 0x1d, 0x20],
            &[0x55, 0x1d, 0x1f],
            &[0x55, 0x1d, 0x24],
            &[0x55, 0x1d, 0x36],
            &[0x2a, 3, 4],
            &[0x55, 0x1d, 0x12],
            &[0x2b, 6, 1, 5, 5, 7, 1, 1],
        ]);
        add(choices, kind, seq(&[]));
    }
    seq(&all)
}

fn general_name(choices: &mut Choices<'_>, is_base: bool) -> Vec<u8> {
    let dns = ["www.example.com", "example.com", "example.org", "WWW.EXAMPLE.COM", "notexample.com", ""];
    let dns_base = ["example.com", ".example.com", "www.example.com", "", "example.org", "COM"];
    let mail =
        ["a@example.com", "b@www.example.com", "A@EXAMPLE.COM", "a@example.org", "nobody", "\"x@y\"@example.com"];
    let mail_base = ["example.com", ".example.com", "a@example.com", "@example.com", "", "A@example.com"];
    let uri = [
        "http://example.com/x",
        "http://www.example.com:80/",
        "ftp://u@example.com/",
        "mailto:a",
        "http://",
        "HTTP://EXAMPLE.COM",
    ];
    let uri_base = ["example.com", ".example.com", "", "www.example.com", "EXAMPLE.COM", "com"];
    let ip: [&[u8]; 4] = [&[10, 0, 0, 1], &[192, 168, 1, 1], &[1; 16], &[1, 2, 3]];
    let ip_base: [&[u8]; 4] = [&[10, 0, 0, 0, 255, 0, 0, 0], &[0; 8], &[1; 32], &[1, 2, 3, 4]];
    let text = |tag: u8, text: &str| tlv(tag, text.as_bytes());
    match choices.byte() {
        0..=90 => text(0x82, choices.one_of(if is_base { &dns_base } else { &dns })),
        91..=135 => text(0x81, choices.one_of(if is_base { &mail_base } else { &mail })),
        136..=175 => text(0x86, choices.one_of(if is_base { &uri_base } else { &uri })),
        176..=205 => tlv(0x87, choices.one_of(if is_base { &ip_base } else { &ip })),
        206..=245 => {
            let number = choices.below(4);
            tlv(0xa4, &name(choices, number))
        }
        _ => tlv(0x88, &[0x2b, 6, 1, 4, 1, 9]),
    }
}

fn name_constraints(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut subtrees = |tag: u8, chance: u8| {
        if !choices.chance(chance) {
            return Vec::new();
        }
        let all: Vec<Vec<u8>> = (0..1 + choices.below(2))
            .map(|_| {
                let base = general_name(choices, true);
                let limit = match choices.byte() {
                    0..=245 => Vec::new(),
                    246..=250 => tlv(0x80, &[1]),
                    _ => tlv(0x81, &[9]),
                };
                seq(&[base, limit])
            })
            .collect();
        tlv(tag, &all.concat())
    };
    let permitted = subtrees(0xa0, 180);
    let excluded = subtrees(0xa1, 100);
    seq(&[permitted, excluded])
}

fn seq(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let len = contents.len();
    let mut bytes = vec![tag];
    match len {
        0..=127 => bytes.push(len as u8),
        128..=255 => bytes.extend([0x81, len as u8]),
        _ => bytes.extend([0x82, (len >> 8) as u8, len as u8]),
    }
    bytes.extend_from_slice(contents);
    bytes
}
