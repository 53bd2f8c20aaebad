//! Certificates and keys: PEM files, as OpenSSL writes them.

use super::chain::Authorities;
use crate::config::{Config, os_reason};
use pkcs8::EncryptedPrivateKeyInfo;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use std::fs;
use std::path::Path;

/// Largest file read: a bundle of all public authorities has a quarter of a megabyte.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// A certificate with its chain, and its key. Relative paths start at `dir`. Errors are Redis's log lines.
pub(super) fn certified_key(
    dir: &Path,
    certificate: &str,
    key: &str,
    password: Option<&str>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, String> {
    let bad_certificate = |reason: String| format!("Failed to load certificate: {certificate}: {reason}");
    let bad_key = |reason: String| format!("Failed to load private key: {key}: {reason}");
    let chain = certificates(&read(&dir.join(certificate)).map_err(bad_certificate)?).map_err(bad_certificate)?;
    let text = read(&dir.join(key)).map_err(bad_key)?;
    let signing_key = private_key(&text, password)
        .and_then(|der| provider.key_provider.load_private_key(der).map_err(|error| error.to_string()))
        .map_err(bad_key)?;
    let own = CertifiedKey::new(chain, signing_key);
    match own.keys_match() {
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(bad_key("it does not belong to the certificate".to_owned()))
        }
        // Peers judge the certificate; what cannot be compared is not held against it (version 1 certificates).
        _ => Ok(own),
    }
}

/// The certificates of `tls-ca-cert-file` and `tls-ca-cert-dir`, which those of peers may come from.
pub(super) fn authorities(config: &Config, algorithms: WebPkiSupportedAlgorithms) -> Result<Authorities, String> {
    let mut all = Vec::new();
    if let Some(file) = &config.tls_ca_cert_file {
        let found = read(&config.dir.join(file)).and_then(|text| certificates(&text)).map_err(bad_authority)?;
        if Authorities::new(&found, algorithms).is_empty() {
            return Err(bad_authority(format!("{file} holds no certificate")));
        }
        all.extend(found);
    }
    if let Some(folder) = &config.tls_ca_cert_dir {
        let entries = fs::read_dir(config.dir.join(folder)).map_err(|error| bad_authority(os_reason(&error)))?;
        for entry in entries.flatten() {
            // Whatever else lies there is no certificate.
            let Ok(found) = read(&entry.path()).and_then(|text| certificates(&text)) else { continue };
            all.extend(found);
        }
    }
    Ok(Authorities::new(&all, algorithms))
}

/// Redis's log line for authorities that cannot be had.
fn bad_authority(reason: impl std::fmt::Display) -> String {
    format!("Failed to configure CA certificate(s) file/directory: {reason}")
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let about = fs::metadata(path).map_err(|error| os_reason(&error))?;
    if !about.is_file() || about.len() > MAX_FILE_BYTES {
        return Err("this is no PEM file".to_owned());
    }
    fs::read(path).map_err(|error| os_reason(&error))
}

fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(text).collect();
    let all = all.map_err(|error| error.to_string())?;
    if all.is_empty() { Err("no certificate in it".to_owned()) } else { Ok(all) }
}

/// The first key of a PEM file; an encrypted one (PKCS #8) needs its password.
fn private_key(text: &[u8], password: Option<&str>) -> Result<PrivateKeyDer<'static>, String> {
    if let Some(block) = encrypted_block(text) {
        let password = password.ok_or("it is encrypted, and tls-key-file-pass is not set")?;
        return decrypt(block, password);
    }
    if memchr::memmem::find(text, b"Proc-Type: 4,ENCRYPTED").is_some() {
        return Err("its encryption is the one before PKCS #8: 'openssl pkcs8 -topk8' converts it".to_owned());
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|error| error.to_string())
}

fn encrypted_block(text: &[u8]) -> Option<&[u8]> {
    let start = memchr::memmem::find(text, b"-----BEGIN ENCRYPTED PRIVATE KEY-----")?;
    let end = b"-----END ENCRYPTED PRIVATE KEY-----";
    let end = memchr::memmem::find(&text[start..], end)? + end.len();
    Some(&text[start..start + end])
}

fn decrypt(block: &[u8], password: &str) -> Result<PrivateKeyDer<'static>, String> {
    let block = std::str::from_utf8(block).map_err(|error| error.to_string())?;
    let (_, document) = pkcs8::SecretDocument::from_pem(block).map_err(|error| error.to_string())?;
    let encrypted = EncryptedPrivateKeyInfo::try_from(document.as_bytes()).map_err(|error| error.to_string())?;
    let key = encrypted.decrypt(password).map_err(|error| format!("it cannot be decrypted: {error}"))?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    struct Files(std::path::PathBuf);

    impl Files {
        fn new(name: &str) -> Files {
            let folder = std::env::temp_dir().join(format!("redstart-tls-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Files(folder)
        }

        fn put(&self, name: &str, text: impl AsRef<[u8]>) {
            fs::write(self.0.join(name), text).unwrap();
        }

        fn load(&self, certificate: &str, key: &str, password: Option<&str>) -> Result<CertifiedKey, String> {
            let provider = rustls::crypto::ring::default_provider();
            certified_key(&self.0, certificate, key, password, &provider)
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn certificate_and_key_belong_together() {
        let files = Files::new("pair");
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        files.put("own.crt", certificate.pem());
        files.put("own.key", key.serialize_pem());
        files.put("other.key", other.serialize_pem());
        files.put("empty", "");
        files.put("cut.key", &key.serialize_pem()[..60]);
        assert!(files.load("own.crt", "own.key", None).is_ok());
        // Both in one file, in any order.
        files.put("both.pem", key.serialize_pem() + &certificate.pem());
        assert!(files.load("both.pem", "both.pem", None).is_ok());
        for (certificate, key, reason) in [
            ("own.crt", "other.key", "Failed to load private key: other.key: it does not belong to the certificate"),
            ("own.key", "own.key", "Failed to load certificate: own.key: no certificate in it"),
            ("own.crt", "gone.key", "Failed to load private key: gone.key: No such file or directory"),
            ("own.crt", "empty", "Failed to load private key: empty: "),
            ("own.crt", "cut.key", "Failed to load private key: cut.key: "),
            (".", "own.key", "Failed to load certificate: .: this is no PEM file"),
        ] {
            let refused = files.load(certificate, key, None).expect_err(reason);
            assert!(refused.starts_with(reason), "{refused}");
        }
    }

    #[test]
    fn encrypted_keys_need_their_password() {
        let files = Files::new("encrypted");
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        files.put("own.crt", certificate.pem());
        let der = key.serialize_der();
        let plain = pkcs8::PrivateKeyInfo::try_from(der.as_slice()).unwrap();
        // What openssl 3 writes, with fewer rounds: the test is not about those.
        let (salt, iv) = ([7; 16], [9; 16]);
        let parameters = pkcs8::pkcs5::pbes2::Parameters::pbkdf2_sha256_aes256cbc(16, &salt, &iv).unwrap();
        let encrypted = plain.encrypt_with_params(parameters, "1234").unwrap();
        let pem = encrypted.to_pem("ENCRYPTED PRIVATE KEY", pkcs8::LineEnding::LF).unwrap();
        files.put("own.key", format!("Bag Attributes\n{}\n{}", pem.as_str(), certificate.pem()));
        assert!(files.load("own.crt", "own.key", Some("1234")).is_ok());
        for (password, reason) in [(None, "tls-key-file-pass is not set"), (Some("4321"), "cannot be decrypted")] {
            let refused = files.load("own.crt", "own.key", password).expect_err(reason);
            assert!(refused.contains(reason), "{refused}");
        }
    }

    #[test]
    fn authorities_come_from_a_file_and_a_folder() {
        let files = Files::new("authorities");
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap().pem();
        files.put("ca.crt", &authority);
        files.put("bundle.crt", authority.clone() + &authority);
        files.put("README", "not a certificate");
        let count = |file: Option<&str>, folder: Option<&str>| {
            let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
            let (tls_ca_cert_file, tls_ca_cert_dir) = (file.map(str::to_owned), folder.map(str::to_owned));
            let config = Config { dir: files.0.clone(), tls_ca_cert_file, tls_ca_cert_dir, ..Config::default() };
            authorities(&config, algorithms).map(|all| all.len())
        };
        assert_eq!(count(Some("bundle.crt"), None), Ok(2));
        assert_eq!(count(None, Some(".")), Ok(3));
        assert_eq!(count(None, None), Ok(0));
        assert!(count(Some("README"), None).is_err());
        assert!(count(None, Some("nowhere")).is_err());
    }
}
