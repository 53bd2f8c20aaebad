//! Clients' certificates of X.509 version 1.
//!
//! webpki reads version 3 only, but OpenSSL signs version 1 when it is given no extensions (before 3.4), and so does the
//! script that Redis's documentation starts TLS with. Such a certificate says a name and a key and nothing else, so there
//! is little to check: it must come straight from a trusted authority, and its time must be now. Everything else is left
//! to webpki.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use std::sync::Arc;
use webpki::RawPublicKeyEntity;
use x509_cert::der::asn1::{AnyRef, BitStringRef};
use x509_cert::der::{self, Decode, Encode, Reader, SliceReader, Tag, Tagged};
use x509_cert::time::Validity;

/// A verifier for certificates of versions 1 and 3.
#[derive(Debug)]
pub(super) struct AnyVersion {
    /// For version 3, and for what does not depend on certificates.
    version3: Arc<dyn ClientCertVerifier>,
    authorities: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyVersion {
    /// `version3` trusts the same authorities.
    pub(super) fn new(
        version3: Arc<dyn ClientCertVerifier>,
        authorities: Arc<RootCertStore>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        AnyVersion { version3, authorities, algorithms }
    }

    fn verify(&self, certificate: &Version1<'_>, now: UnixTime) -> Result<(), CertificateError> {
        let is_issuer = |authority: &&TrustAnchor<'_>| authority.subject.as_ref() == certificate.issuer;
        let mut issuers = self.authorities.roots.iter().filter(is_issuer).peekable();
        issuers.peek().ok_or(CertificateError::UnknownIssuer)?;
        // An authority for certain names only cannot be asked about a certificate without extensions.
        let mut unbound = issuers.filter(|authority| authority.name_constraints.is_none());
        let is_signed = |authority: &TrustAnchor<'_>| self.is_signed_by(certificate, authority);
        if !unbound.any(is_signed) {
            return Err(CertificateError::BadSignature);
        }
        let now_s = now.as_secs();
        if now_s < certificate.validity.not_before.to_unix_duration().as_secs() {
            return Err(CertificateError::NotValidYet);
        }
        if now_s > certificate.validity.not_after.to_unix_duration().as_secs() {
            return Err(CertificateError::Expired);
        }
        Ok(())
    }

    fn is_signed_by(&self, certificate: &Version1<'_>, authority: &TrustAnchor<'_>) -> bool {
        let key = AnyRef::new(Tag::Sequence, authority.subject_public_key_info.as_ref()).and_then(|key| key.to_der());
        let Ok(key) = key.map(SubjectPublicKeyInfoDer::from) else { return false };
        let Ok(key) = RawPublicKeyEntity::try_from(&key) else { return false };
        let fits = self.algorithms.all.iter().filter(|known| *known.signature_alg_id() == *certificate.algorithm);
        fits.into_iter().any(|known| key.verify_signature(*known, certificate.signed, certificate.signature).is_ok())
    }
}

impl ClientCertVerifier for AnyVersion {
    fn offer_client_auth(&self) -> bool {
        self.version3.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.version3.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.version3.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let Some(certificate) = Version1::parse(end_entity) else {
            return self.version3.verify_client_cert(end_entity, intermediates, now);
        };
        self.verify(&certificate, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let Some(certificate) = Version1::parse(cert) else {
            return self.version3.verify_tls12_signature(message, cert, dss);
        };
        let bad = || Error::InvalidCertificate(CertificateError::BadSignature);
        let key = certificate.key();
        let key = RawPublicKeyEntity::try_from(&key).map_err(|_| bad())?;
        let mut fits = self.algorithms.mapping.iter().filter(|(scheme, _)| *scheme == dss.scheme);
        let is_signed = |known: &[&'static dyn rustls::pki_types::SignatureVerificationAlgorithm]| {
            known.iter().any(|known| key.verify_signature(*known, message, dss.signature()).is_ok())
        };
        if fits.any(|(_, known)| is_signed(known)) { Ok(HandshakeSignatureValid::assertion()) } else { Err(bad()) }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match Version1::parse(cert) {
            Some(certificate) => {
                verify_tls13_signature_with_raw_key(message, &certificate.key(), dss, &self.algorithms)
            }
            None => self.version3.verify_tls13_signature(message, cert, dss),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.version3.supported_verify_schemes()
    }
}

/// What a certificate of version 1 says. Names and algorithms are without their outer tag, as webpki has them.
struct Version1<'a> {
    /// What its issuer has signed.
    signed: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
    issuer: &'a [u8],
    validity: Validity,
    /// SubjectPublicKeyInfo.
    key: &'a [u8],
}

impl<'a> Version1<'a> {
    /// None for anything but a certificate of version 1. Source: RFC 5280, 4.1.
    fn parse(certificate: &'a CertificateDer<'_>) -> Option<Self> {
        let mut whole = SliceReader::new(certificate).ok()?;
        let mut outer = SliceReader::new(sequence(&mut whole).ok()?).ok()?;
        whole.finish(()).ok()?;
        let signed = outer.tlv_bytes().ok()?;
        let algorithm = sequence(&mut outer).ok()?;
        let signature = BitStringRef::decode(&mut outer).ok()?.as_bytes()?;
        outer.finish(()).ok()?;
        let mut inner = SliceReader::new(sequence(&mut SliceReader::new(signed).ok()?).ok()?).ok()?;
        // Later versions begin with their number.
        let serial = AnyRef::decode(&mut inner).ok()?;
        let inner_algorithm = sequence(&mut inner).ok()?;
        if serial.tag() != Tag::Integer || inner_algorithm != algorithm {
            return None;
        }
        let issuer = sequence(&mut inner).ok()?;
        let validity = Validity::decode(&mut inner).ok()?;
        sequence(&mut inner).ok()?;
        let key = inner.tlv_bytes().ok()?;
        // Identifiers of issuer and subject ([1] and [2]) are of version 2, extensions of version 3.
        inner.finish(()).ok()?;
        Some(Version1 { signed, algorithm, signature, issuer, validity, key })
    }

    fn key(&self) -> SubjectPublicKeyInfoDer<'_> {
        SubjectPublicKeyInfoDer::from(self.key)
    }
}

/// The contents of a SEQUENCE.
fn sequence<'a>(reader: &mut SliceReader<'a>) -> der::Result<&'a [u8]> {
    let any = AnyRef::decode(reader)?;
    any.tag().assert_eq(Tag::Sequence)?;
    Ok(any.value())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject;
    use rustls::server::WebPkiClientVerifier;
    use std::time::Duration;

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
    /// `openssl x509 -req -in client.csr -CA ca.crt -CAkey ca.key -days 36500 -sha256` (OpenSSL 3.0)
    const CLIENT: &str = "-----BEGIN CERTIFICATE-----
MIIBIDCByAIUb996Z14u9g3+VvKR8cDpWrffg4kwCgYIKoZIzj0EAwIwFDESMBAG
A1UEAwwJQXV0aG9yaXR5MCAXDTI2MTEyMzAzNDIwOFoYDzIxMjYxMDMwMDM0MjA4
WjARMQ8wDQYDVQQDDAZDbGllbnQwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAASd
Uo5PraAIW4f1onE9+nb0ORAcF6ftklCSMIAaR2QXObuuhv3osRyPb4cDFgWWQ9UX
dW7QBH05Td2WwwN9XMtxMAoGCCqGSM49BAMCA0cAMEQCIBL22cnAYBPXmViDJtUn
GesTccj/GkOA7MC6Xz3YretZAiA2l4k4EIsA3/jky6JT7bLJyC3a2AGuwIw1KqVc
whRBvw==
-----END CERTIFICATE-----";

    /// 2030, within both's time.
    const NOW_S: u64 = 1_900_000_000;

    fn verifier(authorities: RootCertStore) -> AnyVersion {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let authorities = Arc::new(authorities);
        let version3 = WebPkiClientVerifier::builder_with_provider(authorities.clone(), provider).build().unwrap();
        AnyVersion::new(version3, authorities, algorithms)
    }

    fn verify(authority: &CertificateDer<'_>, client: &CertificateDer<'_>, now_s: u64) -> Result<(), Error> {
        let mut authorities = RootCertStore::empty();
        authorities.add(authority.clone().into_owned()).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now_s));
        verifier(authorities).verify_client_cert(client, &[], now).map(|_| ())
    }

    fn pem(text: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(text.as_bytes()).unwrap()
    }

    #[test]
    fn it_must_come_from_an_authority_and_be_of_now() {
        let (authority, client) = (pem(AUTHORITY), pem(CLIENT));
        assert_eq!(verify(&authority, &client, NOW_S), Ok(()));
        assert_eq!(verify(&authority, &client, 1_600_000_000), Err(CertificateError::NotValidYet.into()));
        assert_eq!(verify(&authority, &client, 5_000_000_000), Err(CertificateError::Expired.into()));
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let other = params.self_signed(&key).unwrap();
        assert_eq!(verify(other.der(), &client, NOW_S), Err(CertificateError::UnknownIssuer.into()));
        // Another authority of the same name.
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, rcgen::DnValue::Utf8String("Authority".to_owned()));
        let namesake = params.self_signed(&key).unwrap();
        assert_eq!(verify(namesake.der(), &client, NOW_S), Err(CertificateError::BadSignature.into()));
    }

    #[test]
    fn a_certificate_with_any_byte_changed_or_missing_is_refused() {
        let (authority, client) = (pem(AUTHORITY), pem(CLIENT));
        for position in 0..client.len() {
            for flip in [1, 0x80] {
                let mut changed = client.to_vec();
                changed[position] ^= flip;
                assert!(verify(&authority, &changed.into(), NOW_S).is_err(), "byte {position}");
            }
            assert!(verify(&authority, &client[..position].to_vec().into(), NOW_S).is_err(), "cut at {position}");
        }
    }

    #[test]
    fn later_versions_are_left_to_webpki() {
        assert!(Version1::parse(&pem(AUTHORITY)).is_none());
        assert!(Version1::parse(&pem(CLIENT)).is_some());
    }
}
