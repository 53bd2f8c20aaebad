//! What an X.509 certificate of any version says, as far as trust depends on it.
//!
//! The parser is `x509-cert`'s; what stands here is what OpenSSL makes of the fields. A certificate in which one of the
//! extensions below is malformed, or comes twice, is none. Source: RFC 5280, 4; OpenSSL 3.0 where it differs.

use super::names;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use x509_cert::TbsCertificate;
use x509_cert::der::asn1::{AnyRef, BitStringRef, IntRef, ObjectIdentifier, OctetStringRef};
use x509_cert::der::{self, Decode, Encode, Reader, SliceReader, Tag, Tagged};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::{GeneralName, GeneralNames};
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, ExtendedKeyUsage, NameConstraints};
use x509_cert::name::Name;

/// A certificate of versions 1 to 3.
#[derive(Debug)]
pub(super) struct Certificate {
    /// All of it, as it came.
    pub(super) der: Vec<u8>,
    /// What its issuer has signed.
    pub(super) signed: Vec<u8>,
    /// AlgorithmIdentifier of the signature, without its outer tag, as webpki has them.
    pub(super) algorithm: Vec<u8>,
    /// It stands within what is signed as well. Only there it could not be changed.
    pub(super) names_algorithm_twice: bool,
    pub(super) signature: Vec<u8>,
    key: Vec<u8>,
    serial: Vec<u8>,
    pub(super) issuer: names::Canonical,
    pub(super) subject: names::Canonical,
    pub(super) subject_name: Name,
    /// Unix time in seconds; the second itself is within.
    pub(super) not_before_s: u64,
    /// Unix time in seconds; the second itself is too late.
    pub(super) not_after_s: u64,
    /// Subject and issuer are the same.
    pub(super) is_self_issued: bool,
    /// It is its own issuer, as far as names and key identifiers tell.
    pub(super) is_self_signed: bool,
    pub(super) extensions: Extensions,
}

/// Its extensions; None where there is none of a kind.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    is_version1: bool,
    /// The CA flag and, if there is one, how many authorities may stand between this one and the last certificate.
    basic_constraints: Option<(bool, Option<u64>)>,
    key_usage: Option<u8>,
    extended_key_usage: Option<Vec<ObjectIdentifier>>,
    netscape_type: Option<u8>,
    subject_key: Option<Vec<u8>>,
    authority_key: Option<AuthorityKeyIdentifier>,
    pub(super) alternative_names: GeneralNames,
    pub(super) name_constraints: Option<NameConstraints>,
    /// One that is marked critical and not known here.
    pub(super) has_unknown_critical: bool,
}

/// What a certificate is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To show who a TLS client is.
    Client,
    /// To show who a TLS server is.
    Server,
}

impl Certificate {
    pub(super) fn parse(bytes: &[u8]) -> der::Result<Certificate> {
        let mut outer = SliceReader::new(sequence(&mut SliceReader::new(bytes)?)?)?;
        let signed = outer.tlv_bytes()?;
        let algorithm = sequence(&mut outer)?;
        let signature = BitStringRef::decode(&mut outer)?;
        outer.finish(())?;
        let tbs = TbsCertificate::from_der(signed)?;
        let malformed = || Tag::Sequence.value_error();
        let signed_algorithm = sequence(&mut SliceReader::new(&tbs.signature.to_der()?)?)?.to_vec();
        let (issuer, subject) = (names::Canonical::new(&tbs.issuer)?, names::Canonical::new(&tbs.subject)?);
        let mut extensions = Extensions::parse(tbs.extensions.as_deref().unwrap_or_default())?;
        extensions.is_version1 = tbs.version == x509_cert::Version::V1;
        let mut certificate = Certificate {
            der: bytes.to_vec(),
            signed: signed.to_vec(),
            names_algorithm_twice: signed_algorithm == algorithm,
            algorithm: algorithm.to_vec(),
            signature: signature.as_bytes().ok_or_else(malformed)?.to_vec(),
            key: tbs.subject_public_key_info.to_der()?,
            serial: tbs.serial_number.as_bytes().to_vec(),
            is_self_issued: issuer == subject,
            is_self_signed: false,
            issuer,
            subject,
            subject_name: tbs.subject,
            not_before_s: tbs.validity.not_before.to_unix_duration().as_secs(),
            not_after_s: tbs.validity.not_after.to_unix_duration().as_secs(),
            extensions,
        };
        let key_algorithm = tbs.subject_public_key_info.algorithm.oid;
        let own_kind = is_signature_of(tbs.signature.oid, key_algorithm);
        certificate.is_self_signed = certificate.is_self_issued && own_kind && certificate.names_key_of(&certificate);
        Ok(certificate)
    }

    /// SubjectPublicKeyInfo.
    pub(super) fn key(&self) -> SubjectPublicKeyInfoDer<'_> {
        SubjectPublicKeyInfoDer::from(self.key.as_slice())
    }

    /// Whether `authority` may have issued it: names and key identifiers fit, and it may sign certificates.
    pub(super) fn may_come_from(&self, authority: &Certificate) -> bool {
        self.issuer == authority.subject && self.names_key_of(authority) && authority.extensions.allows(CERT_SIGN)
    }

    /// Whether its authority key identifier, if it has one, describes this authority.
    fn names_key_of(&self, authority: &Certificate) -> bool {
        let Some(described) = &self.extensions.authority_key else { return true };
        let has_key = match (&described.key_identifier, &authority.extensions.subject_key) {
            (Some(wanted), Some(found)) => wanted.as_bytes() == found,
            _ => true,
        };
        let serial = described.authority_cert_serial_number.as_ref();
        let has_serial = serial.is_none_or(|serial| serial.as_bytes() == authority.serial);
        let issuer = described.authority_cert_issuer.iter().flatten().find_map(|name| match name {
            GeneralName::DirectoryName(name) => Some(name),
            _ => None,
        });
        let has_issuer =
            issuer.is_none_or(|name| names::Canonical::new(name).is_ok_and(|name| name == authority.issuer));
        has_key && has_serial && has_issuer
    }

    /// Whether it is an authority that may sign certificates for this purpose. One that does not say it is an authority
    /// can be one all the same: of version 1 a root, of version 3 one whose key may sign certificates.
    pub(super) fn is_authority_for(&self, purpose: Purpose) -> bool {
        let extensions = &self.extensions;
        let by_type = extensions.netscape_type.filter(|kind| kind & NETSCAPE_ANY_CA != 0);
        let is_authority = extensions.allows(CERT_SIGN)
            && match extensions.basic_constraints {
                Some((is_authority, _)) => is_authority,
                None if extensions.is_version1 && self.is_self_signed => true,
                None if extensions.key_usage.is_some() => true,
                None => by_type.is_some_and(|kind| kind & NETSCAPE_TLS_CA != 0),
            };
        is_authority && extensions.allows_extended(purpose)
    }

    /// Whether a peer may show it for this purpose.
    pub(super) fn is_fit_for(&self, purpose: Purpose) -> bool {
        let (usages, kind) = match purpose {
            Purpose::Client => (DIGITAL_SIGNATURE | KEY_AGREEMENT, NETSCAPE_CLIENT),
            Purpose::Server => (DIGITAL_SIGNATURE | KEY_ENCIPHERMENT | KEY_AGREEMENT, NETSCAPE_SERVER),
        };
        let extensions = &self.extensions;
        let is_of_kind = extensions.netscape_type.is_none_or(|kinds| kinds & kind != 0);
        extensions.allows_extended(purpose) && extensions.allows(usages) && is_of_kind
    }

    /// How many authorities may stand between it and the last certificate, those that issued themselves not counted.
    pub(super) fn most_below(&self) -> Option<u64> {
        self.extensions.basic_constraints.and_then(|(_, most)| most)
    }
}

impl Extensions {
    fn parse(all: &[Extension]) -> der::Result<Extensions> {
        let mut found = Extensions::default();
        for extension in all {
            let (bytes, mut is_known) = (extension.extn_value.as_bytes(), true);
            match extension.extn_id {
                BASIC_CONSTRAINTS => once(&mut found.basic_constraints, basic_constraints(bytes))?,
                KEY_USAGE => once(&mut found.key_usage, key_usage(bytes))?,
                EXTENDED_KEY_USAGE => {
                    once(&mut found.extended_key_usage, ExtendedKeyUsage::from_der(bytes).map(|usage| usage.0))?;
                }
                NETSCAPE_TYPE => once(&mut found.netscape_type, bits(bytes))?,
                ALTERNATIVE_NAME if found.alternative_names.is_empty() => {
                    found.alternative_names = GeneralNames::from_der(bytes)?;
                }
                ALTERNATIVE_NAME => return Err(Tag::Sequence.value_error()),
                NAME_CONSTRAINTS => once(&mut found.name_constraints, NameConstraints::from_der(bytes))?,
                SUBJECT_KEY => {
                    let identifier = OctetStringRef::from_der(bytes).map(|identifier| identifier.as_bytes().to_vec());
                    once(&mut found.subject_key, identifier)?;
                    is_known = false;
                }
                AUTHORITY_KEY => {
                    once(&mut found.authority_key, AuthorityKeyIdentifier::from_der(bytes))?;
                    is_known = false;
                }
                // A key that others have lent their name to, and addresses: nobody has either by default.
                PROXY | ADDRESSES | SYSTEMS => found.has_unknown_critical = true,
                other => is_known = WITHOUT_EFFECT.contains(&other),
            }
            found.has_unknown_critical |= extension.critical && !is_known;
        }
        Ok(found)
    }

    /// Whether the key may be used in one of these ways.
    fn allows(&self, usages: u8) -> bool {
        self.key_usage.is_none_or(|usage| usage & usages != 0)
    }

    fn allows_extended(&self, purpose: Purpose) -> bool {
        let fits: &[ObjectIdentifier] = match purpose {
            Purpose::Client => &[CLIENT_AUTH],
            Purpose::Server => &[SERVER_AUTH, MICROSOFT_SGC, NETSCAPE_SGC],
        };
        self.extended_key_usage.as_ref().is_none_or(|usages| usages.iter().any(|usage| fits.contains(usage)))
    }
}

/// An extension must not come twice.
fn once<T>(place: &mut Option<T>, value: der::Result<T>) -> der::Result<()> {
    if place.replace(value?).is_some() { Err(Tag::Sequence.value_error()) } else { Ok(()) }
}

/// `SEQUENCE { cA BOOLEAN DEFAULT FALSE, pathLenConstraint INTEGER OPTIONAL }`
fn basic_constraints(bytes: &[u8]) -> der::Result<(bool, Option<u64>)> {
    let mut whole = SliceReader::new(bytes)?;
    let mut reader = SliceReader::new(sequence(&mut whole)?)?;
    whole.finish(())?;
    let is_authority = Option::<bool>::decode(&mut reader)?.unwrap_or(false);
    let most_below = Option::<IntRef<'_>>::decode(&mut reader)?.map(|number| number.as_bytes().to_vec());
    reader.finish(())?;
    let most_below = most_below.map(|bytes| match bytes.as_slice() {
        [first, ..] if first & 0x80 != 0 => Err(Tag::Integer.value_error()),
        bytes => Ok(bytes.iter().fold(0u64, |sum, byte| sum.saturating_mul(256).saturating_add(u64::from(*byte)))),
    });
    Ok((is_authority, most_below.transpose()?))
}

/// The first eight bits of a key usage, which must not be empty.
fn key_usage(bytes: &[u8]) -> der::Result<u8> {
    let all = BitStringRef::from_der(bytes)?;
    if all.raw_bytes().iter().all(|byte| *byte == 0) {
        return Err(Tag::BitString.value_error());
    }
    bits(bytes)
}

fn bits(bytes: &[u8]) -> der::Result<u8> {
    BitStringRef::from_der(bytes).map(|bits| bits.raw_bytes().first().copied().unwrap_or(0))
}

/// The contents of a SEQUENCE.
fn sequence<'a>(reader: &mut SliceReader<'a>) -> der::Result<&'a [u8]> {
    let any = AnyRef::decode(reader)?;
    any.tag().assert_eq(Tag::Sequence)?;
    Ok(any.value())
}

/// Whether a key of this kind makes signatures of this kind.
fn is_signature_of(signature: ObjectIdentifier, key: ObjectIdentifier) -> bool {
    let family = |oid: ObjectIdentifier| match oid {
        oid if oid.as_bytes().starts_with(RSA.as_bytes()) => RSA,
        oid if oid.as_bytes().starts_with(ECDSA.as_bytes()) => EC_KEY,
        oid => oid,
    };
    family(signature) == family(key)
}

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

const SUBJECT_KEY: ObjectIdentifier = oid("2.5.29.14");
const KEY_USAGE: ObjectIdentifier = oid("2.5.29.15");
const ALTERNATIVE_NAME: ObjectIdentifier = oid("2.5.29.17");
const BASIC_CONSTRAINTS: ObjectIdentifier = oid("2.5.29.19");
const NAME_CONSTRAINTS: ObjectIdentifier = oid("2.5.29.30");
const AUTHORITY_KEY: ObjectIdentifier = oid("2.5.29.35");
const EXTENDED_KEY_USAGE: ObjectIdentifier = oid("2.5.29.37");
const NETSCAPE_TYPE: ObjectIdentifier = oid("2.16.840.1.113730.1.1");
const PROXY: ObjectIdentifier = oid("1.3.6.1.5.5.7.1.14");
const ADDRESSES: ObjectIdentifier = oid("1.3.6.1.5.5.7.1.7");
const SYSTEMS: ObjectIdentifier = oid("1.3.6.1.5.5.7.1.8");

/// Of policies and revocation lists, which are not asked for by default; OpenSSL knows them.
const WITHOUT_EFFECT: [ObjectIdentifier; 5] =
    [oid("2.5.29.32"), oid("2.5.29.31"), oid("2.5.29.36"), oid("2.5.29.33"), oid("2.5.29.54")];

const CLIENT_AUTH: ObjectIdentifier = oid("1.3.6.1.5.5.7.3.2");
const SERVER_AUTH: ObjectIdentifier = oid("1.3.6.1.5.5.7.3.1");
const MICROSOFT_SGC: ObjectIdentifier = oid("1.3.6.1.4.1.311.10.3.3");
const NETSCAPE_SGC: ObjectIdentifier = oid("2.16.840.1.113730.4.1");

const RSA: ObjectIdentifier = oid("1.2.840.113549.1.1");
const ECDSA: ObjectIdentifier = oid("1.2.840.10045.4");
const EC_KEY: ObjectIdentifier = oid("1.2.840.10045.2.1");

/// Bits of a key usage.
const DIGITAL_SIGNATURE: u8 = 0x80;
const KEY_ENCIPHERMENT: u8 = 0x20;
const KEY_AGREEMENT: u8 = 0x08;
const CERT_SIGN: u8 = 0x04;

/// Bits of a Netscape certificate type.
const NETSCAPE_CLIENT: u8 = 0x80;
const NETSCAPE_SERVER: u8 = 0x40;
const NETSCAPE_TLS_CA: u8 = 0x04;
const NETSCAPE_ANY_CA: u8 = 0x07;
