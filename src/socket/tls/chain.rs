//! Whether a peer's certificate is trusted: the verdict of OpenSSL's default verification, which is Redis's.
//!
//! webpki trusts the key of an authority and looks at nothing else of its certificate, so one whose time is over, or that
//! never was an authority, would do; it reads version 3 only, which OpenSSL before 3.4 writes only where there are
//! extensions, as the script that Redis's documentation starts TLS with has none; and it refuses an authority's own
//! certificate, which `openssl req -x509` makes, as a client's. So the chain is judged here, as a whole and for all versions;
//! webpki checks signatures. Beside OpenSSL's own verdict it is fuzzed (`tests/fuzz/fuzz_targets/certificates.rs`).
//!
//! A chain begins with the certificate shown and ends with one of `tls-ca-cert-file` or `-dir` that has signed itself. It
//! is looked for among the trusted, then among those that the peer has sent, with a bound on the signatures checked.

use super::certificate::{Certificate, Purpose};
use super::names;
use rustls::CertificateError;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::RawPublicKeyEntity;

/// The certificates that a server trusts.
#[derive(Debug)]
pub struct Authorities {
    all: Vec<Certificate>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// A peer may send many certificates of one name: more signatures than this are not checked for it.
const MAX_SIGNATURES: usize = 100;
const MAX_CHAIN_LEN: usize = 100;

impl Authorities {
    /// Signatures are checked by `algorithms`. What is no certificate is passed over.
    pub fn new(certificates: &[CertificateDer<'_>], algorithms: WebPkiSupportedAlgorithms) -> Authorities {
        let all = certificates.iter().filter_map(|bytes| Certificate::parse(bytes).ok()).collect();
        Authorities { all, algorithms }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Judges the certificate `shown`, sent together with `others`, at the time `now`.
    pub fn verify(
        &self,
        shown: &[u8],
        others: &[CertificateDer<'_>],
        purpose: Purpose,
        now: UnixTime,
    ) -> Result<(), CertificateError> {
        let shown = Certificate::parse(shown).map_err(|_| CertificateError::BadEncoding)?;
        // The trusted copy of a certificate counts, which leads to trusted ones only.
        let is_new = |other: &Certificate| self.all.iter().all(|authority| authority.der != other.der);
        let others: Vec<Certificate> =
            others.iter().filter_map(|bytes| Certificate::parse(bytes).ok()).filter(is_new).collect();
        let mut search = Search {
            authorities: self,
            others: &others,
            purpose,
            now_s: now.as_secs(),
            signatures_left: MAX_SIGNATURES,
            refusal: CertificateError::UnknownIssuer,
        };
        let is_trusted = self.all.iter().any(|authority| authority.der == shown.der);
        if search.extend(&mut vec![&shown], is_trusted) { Ok(()) } else { Err(search.refusal) }
    }

    fn is_signed_by(&self, certificate: &Certificate, authority: &Certificate) -> bool {
        let key = authority.key();
        let Ok(key) = RawPublicKeyEntity::try_from(&key) else { return false };
        if !certificate.names_algorithm_twice {
            return false;
        }
        let mut fits =
            self.algorithms.all.iter().filter(|known| *known.signature_alg_id() == *certificate.algorithm.as_slice());
        fits.any(|known| key.verify_signature(*known, &certificate.signed, &certificate.signature).is_ok())
    }
}

/// The search for a chain that holds.
struct Search<'a> {
    authorities: &'a Authorities,
    others: &'a [Certificate],
    purpose: Purpose,
    now_s: u64,
    signatures_left: usize,
    /// Why the last chain did not hold.
    refusal: CertificateError,
}

impl<'a> Search<'a> {
    /// Whether the chain holds with what can be added to its end. `is_trusted` says where its last certificate is from.
    fn extend(&mut self, chain: &mut Vec<&'a Certificate>, is_trusted: bool) -> bool {
        let Some(&last) = chain.last() else { return false };
        if last.is_self_signed {
            return is_trusted && self.holds(chain);
        }
        if chain.len() == MAX_CHAIN_LEN {
            return false;
        }
        // What a trusted one leads on to must be trusted itself.
        let sent = if is_trusted && chain.len() > 1 { &[] } else { self.others };
        let trusted = self.authorities.all.iter().map(|authority| (authority, true));
        let sent = sent.iter().map(|other| (other, false));
        for (issuer, is_trusted) in trusted.chain(sent) {
            if !last.may_come_from(issuer) || chain.iter().any(|known| known.der == issuer.der) {
                continue;
            }
            if self.signatures_left == 0 {
                return false;
            }
            self.signatures_left -= 1;
            if !self.authorities.is_signed_by(last, issuer) {
                self.refusal = CertificateError::BadSignature;
                continue;
            }
            chain.push(issuer);
            if self.extend(chain, is_trusted) {
                return true;
            }
            chain.pop();
        }
        false
    }

    /// Judges a whole chain; keeps why it does not hold.
    fn holds(&mut self, chain: &[&Certificate]) -> bool {
        let judged = self.judge(chain);
        if let Err(refusal) = &judged {
            self.refusal = refusal.clone();
        }
        judged.is_ok()
    }

    fn judge(&self, chain: &[&Certificate]) -> Result<(), CertificateError> {
        let mut authorities_below = 0;
        for (position, certificate) in chain.iter().enumerate() {
            if certificate.extensions.has_unknown_critical {
                return Err(CertificateError::UnhandledCriticalExtension);
            }
            let is_fit = match position {
                0 => certificate.is_fit_for(self.purpose),
                _ => certificate.is_authority_for(self.purpose),
            };
            let is_too_far = position > 0 && certificate.most_below().is_some_and(|most| authorities_below > most);
            if !is_fit || is_too_far {
                return Err(CertificateError::InvalidPurpose);
            }
            authorities_below += u64::from(position > 0 && !certificate.is_self_issued);
            if self.now_s < certificate.not_before_s {
                return Err(CertificateError::NotValidYet);
            }
            if self.now_s >= certificate.not_after_s {
                return Err(CertificateError::Expired);
            }
            let mut constraints = chain[position + 1..].iter().filter_map(|c| c.extensions.name_constraints.as_ref());
            // An authority that gives itself a new certificate keeps its name.
            let is_exempt = position > 0 && certificate.is_self_issued;
            if !is_exempt && !constraints.all(|constraints| names::permits(constraints, certificate, position == 0)) {
                return Err(CertificateError::ApplicationVerificationFailure);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
    use rcgen::{GeneralSubtree, KeyUsagePurpose, NameConstraints, date_time_ymd};
    use rustls::pki_types::pem::PemObject;
    use std::time::Duration;

    type Issuer = CertifiedIssuer<'static, KeyPair>;
    type Der = CertificateDer<'static>;

    /// `openssl req -x509 -new -key ca.key -days 36500 -subj /CN=Authority`
    const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----
MIIBfzCCASWgAwIBAgIUCO2cF8ZXF2O3D5FMmEUgr6OsMw0wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJQXV0aG9yaXR5MCAXDTI2MTEyMzAzNDIwOFoYDzIxMjYxMDMw
MDM0MjA4WjAUMRIwEAYDVQQDDAlBdXRob3JpdHkwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASxVUxPvL9aohTdmCaHyW3dPRL60Kgd+gU5ZW1/3XY7TJA6xSuoOX3J
qGexLW9vZQk9W3L2pdj92uKPkdcrHsvPo1MwUTAdBgNVHQ4EFgQUpuL4shVL0i7/
evXbuGj2WhpKHfIwHwYDVR0jBBgwFoAUpuL4shVL0i7/evXbuGj2WhpKHfIwDwYD
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEAp1GV1xzYgzj6J6VsWZ3o
YJTzLT57HJ5iomzitkEUHDsCIFPmkqJ0KTCB2Kj5Kh80QCj413Oq5mcB24c6+WLw
DYsg
-----END CERTIFICATE-----";
    /// Of version 1: `openssl x509 -req -in client.csr -CA ca.crt -CAkey ca.key -days 36500 -sha256` (OpenSSL 3.0)
    const CLIENT: &str = "-----BEGIN CERTIFICATE-----
MIIBIDCByAIUb996Z14u9g3+VvKR8cDpWrffg4kwCgYIKoZIzj0EAwIwFDESMBAG
A1UEAwwJQXV0aG9yaXR5MCAXDTI2MTEyMzAzNDIwOFoYDzIxMjYxMDMwMDM0MjA4
WjARMQ8wDQYDVQQDDAZDbGllbnQwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAASd
Uo5PraAIW4f1onE9+nb0ORAcF6ftklCSMIAaR2QXObuuhv3osRyPb4cDFgWWQ9UX
dW7QBH05Td2WwwN9XMtxMAoGCCqGSM49BAMCA0cAMEQCIBL22cnAYBPXmViDJtUn
GesTccj/GkOA7MC6Xz3YretZAiA2l4k4EIsA3/jky6JT7bLJyC3a2AGuwIw1KqVc
whRBvw==
-----END CERTIFICATE-----";

    /// 2030, within the time of both, and of what is made here unless said otherwise.
    const NOW_S: u64 = 1_900_000_000;

    fn verify_as(
        trusted: &[Der],
        sent: &[Der],
        shown: &Der,
        purpose: Purpose,
        now_s: u64,
    ) -> Result<(), CertificateError> {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now_s));
        Authorities::new(trusted, algorithms).verify(shown, sent, purpose, now)
    }

    fn verify(trusted: &[Der], sent: &[Der], shown: &Der) -> Result<(), CertificateError> {
        verify_as(trusted, sent, shown, Purpose::Client, NOW_S)
    }

    fn pem(text: &str) -> Der {
        CertificateDer::from_pem_slice(text.as_bytes()).unwrap()
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2040, 1, 1));
        params
    }

    fn authority(name: &str) -> CertificateParams {
        with(params(name), |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))
    }

    fn with(mut params: CertificateParams, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
        change(&mut params);
        params
    }

    fn root(params: CertificateParams) -> Issuer {
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn below(issuer: &Issuer, params: CertificateParams) -> Issuer {
        CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), issuer).unwrap()
    }

    fn der(issuer: &Issuer) -> Der {
        issuer.der().clone()
    }

    /// Whether a client below an authority that was changed like that is trusted: as the root, and between root and client.
    fn trusts_below(change: impl Fn(&mut CertificateParams)) -> (bool, bool) {
        let mut changed = authority("Changed");
        change(&mut changed);
        let as_root = root(changed.clone());
        let is_trusted_root = verify(&[der(&as_root)], &[], &der(&below(&as_root, params("Client")))).is_ok();
        let plain = root(authority("Root"));
        let between = below(&plain, changed);
        let client = der(&below(&between, params("Client")));
        (is_trusted_root, verify(&[der(&plain)], &[der(&between)], &client).is_ok())
    }

    #[test]
    fn every_authority_in_the_chain_is_one_and_within_its_time() {
        assert_eq!(trusts_below(|_| {}), (true, true));
        assert_eq!(trusts_below(|p| p.not_after = date_time_ymd(2021, 1, 1)), (false, false), "it is over");
        assert_eq!(trusts_below(|p| p.not_before = date_time_ymd(2039, 1, 1)), (false, false), "it has not begun");
        assert_eq!(trusts_below(|p| p.is_ca = IsCa::ExplicitNoCa), (false, false), "CA:FALSE");
        assert_eq!(trusts_below(|p| p.is_ca = IsCa::NoCa), (false, false), "no word of being one");
        assert_eq!(trusts_below(|p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature]), (false, false));
        assert_eq!(trusts_below(|p| p.key_usages = vec![KeyUsagePurpose::KeyCertSign]), (true, true));
        assert_eq!(trusts_below(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]), (false, false));
        assert_eq!(trusts_below(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]), (true, true));
        assert_eq!(trusts_below(|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))), (true, true));
        let unknown = |critical| {
            move |p: &mut CertificateParams| {
                let mut extension = rcgen::CustomExtension::from_oid_content(&[1, 3, 9999], vec![5, 0]);
                extension.set_criticality(critical);
                p.custom_extensions.push(extension);
            }
        };
        assert_eq!(trusts_below(unknown(false)), (true, true));
        assert_eq!(trusts_below(unknown(true)), (false, false));
        let names = |permitted: &str| {
            let permitted_subtrees = vec![GeneralSubtree::DnsName(permitted.to_owned())];
            Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() })
        };
        assert_eq!(
            trusts_below(|p| p.name_constraints = names("example.com")),
            (true, true),
            "a client without such a name"
        );
    }

    #[test]
    fn what_is_shown_must_be_fit_for_it() {
        let issuer = root(authority("Root"));
        let shows = |change: &dyn Fn(&mut CertificateParams)| {
            let mut changed = params("Peer");
            change(&mut changed);
            let shown = der(&below(&issuer, changed));
            let as_ = |purpose| verify_as(&[der(&issuer)], &[], &shown, purpose, NOW_S).is_ok();
            (as_(Purpose::Client), as_(Purpose::Server))
        };
        assert_eq!(shows(&|_| {}), (true, true));
        assert_eq!(shows(&|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]), (true, false));
        assert_eq!(shows(&|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]), (false, true));
        assert_eq!(shows(&|p| p.key_usages = vec![KeyUsagePurpose::KeyEncipherment]), (false, true));
        assert_eq!(shows(&|p| p.key_usages = vec![KeyUsagePurpose::CrlSign]), (false, false));
        assert_eq!(shows(&|p| p.not_after = date_time_ymd(2021, 1, 1)), (false, false));
        assert_eq!(shows(&|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), (true, true), "an authority's own");
    }

    #[test]
    fn names_are_as_the_authority_may_give_them() {
        let mut limited = authority("Root");
        let tree = |name: &str| GeneralSubtree::DnsName(name.to_owned());
        limited.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![tree("example.com")],
            excluded_subtrees: vec![tree("bad.example.com")],
        });
        let issuer = root(limited);
        for (name, is_trusted) in
            [("a.example.com", true), ("example.com", true), ("notexample.com", false), ("x.bad.example.com", false)]
        {
            let mut named = params("Client");
            named.subject_alt_names = vec![rcgen::SanType::DnsName(name.try_into().unwrap())];
            assert_eq!(verify(&[der(&issuer)], &[], &der(&below(&issuer, named))).is_ok(), is_trusted, "{name}");
            // Without any other name, the common one is looked at.
            assert_eq!(
                verify(&[der(&issuer)], &[], &der(&below(&issuer, params(name)))).is_ok(),
                is_trusted,
                "CN={name}"
            );
        }
    }

    #[test]
    fn a_chain_ends_with_a_trusted_root() {
        let (top, other) = (root(authority("Root")), root(authority("Other")));
        let middle = below(&top, authority("Middle"));
        let client = der(&below(&middle, params("Client")));
        assert!(verify(&[der(&top), der(&middle)], &[], &client).is_ok());
        assert!(verify(&[der(&top)], &[der(&middle), der(&top), der(&other)], &client).is_ok());
        assert!(verify(&[der(&middle)], &[], &client).is_err(), "a part of a chain");
        assert!(verify(&[der(&middle)], &[der(&top)], &client).is_err(), "the root is the peer's own");
        assert!(verify(&[der(&other)], &[der(&middle)], &client).is_err());
        assert!(verify(&[], &[der(&middle), der(&top)], &client).is_err());
        // A certificate that is trusted itself, whether or not it says it is an authority.
        for is_ca in [IsCa::ExplicitNoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
            let own = root(with(params("Own"), |params| params.is_ca = is_ca));
            assert!(verify(&[der(&own)], &[], &der(&own)).is_ok());
            assert!(verify(&[der(&top)], &[], &der(&own)).is_err());
        }
        // How deep an authority may stand above.
        let shallow =
            root(with(authority("Shallow"), |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))));
        let middle = below(&shallow, authority("Middle"));
        let client = der(&below(&middle, params("Client")));
        assert!(verify(&[der(&shallow)], &[der(&middle)], &client).is_err());
    }

    #[test]
    fn of_two_authorities_with_one_name_or_key_either_may_hold() {
        let key = KeyPair::generate().unwrap();
        let mut over = authority("Root");
        over.not_after = date_time_ymd(2021, 1, 1);
        let over = over.self_signed(&key).unwrap().der().clone();
        let issuer = CertifiedIssuer::self_signed(authority("Root"), key).unwrap();
        let namesake = root(authority("Root"));
        let client = der(&below(&issuer, params("Client")));
        for trusted in
            [vec![over.clone(), der(&issuer)], vec![der(&issuer), over.clone()], vec![der(&namesake), der(&issuer)]]
        {
            assert!(verify(&trusted, &[], &client).is_ok());
        }
        assert_eq!(verify(&[over], &[], &client), Err(CertificateError::Expired));
        assert!(verify(&[der(&namesake)], &[], &client).is_err());
    }

    /// A peer sends many authorities of one name: none is right, and looking ends.
    #[test]
    fn a_search_ends() {
        let top = root(authority("Root"));
        let many: Vec<Der> = (0..40).map(|_| der(&below(&top, authority("Root")))).collect();
        let client = der(&below(&root(authority("Root")), params("Client")));
        assert!(verify(&[der(&top)], &many, &client).is_err());
    }

    #[test]
    fn version_1_comes_from_a_trusted_authority_too() {
        let (issuer, client) = (pem(AUTHORITY), pem(CLIENT));
        assert_eq!(verify(std::slice::from_ref(&issuer), &[], &client), Ok(()));
        let at = |now_s| verify_as(std::slice::from_ref(&issuer), &[], &client, Purpose::Client, now_s);
        assert_eq!(at(1_500_000_000), Err(CertificateError::NotValidYet));
        assert_eq!(at(5_000_000_000), Err(CertificateError::Expired));
        assert!(verify(&[der(&root(authority("Authority")))], &[], &client).is_err(), "a namesake");
        // It is no authority for others: only a root may be one without a word.
        assert!(verify(std::slice::from_ref(&client), &[], &client).is_err());
    }

    #[test]
    fn a_certificate_with_any_byte_changed_or_missing_is_refused() {
        let (issuer, client) = (pem(AUTHORITY), pem(CLIENT));
        for position in 0..client.len() {
            for flip in [1, 0x80] {
                let mut changed = client.to_vec();
                changed[position] ^= flip;
                assert!(verify(std::slice::from_ref(&issuer), &[], &changed.into()).is_err(), "byte {position}");
            }
            assert!(
                verify(std::slice::from_ref(&issuer), &[], &client[..position].to_vec().into()).is_err(),
                "cut at {position}"
            );
        }
    }
}
