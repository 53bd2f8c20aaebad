//! `tls-ciphers` and `tls-ciphersuites`: OpenSSL's names for what rustls has.
//!
//! rustls has no cipher without forward secrecy or authenticated encryption. As OpenSSL does with names it does not
//! know, others are passed over; a list of which nothing is left is refused.

use rustls::crypto::{CryptoProvider, ring};
use rustls::{CipherSuite, SupportedCipherSuite};

/// One cipher of TLS 1.2: OpenSSL's name, and the names of the groups it is in.
struct Tls12 {
    suite: CipherSuite,
    name: &'static str,
    groups: [&'static str; 3],
}

/// In the order of preference.
const TLS12: [Tls12; 6] = [
    tls12(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "ECDHE-ECDSA-AES256-GCM-SHA384", ECDSA, AES_256),
    tls12(CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "ECDHE-RSA-AES256-GCM-SHA384", RSA, AES_256),
    tls12(CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-ECDSA-CHACHA20-POLY1305", ECDSA, CHACHA20),
    tls12(CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-RSA-CHACHA20-POLY1305", RSA, CHACHA20),
    tls12(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "ECDHE-ECDSA-AES128-GCM-SHA256", ECDSA, AES_128),
    tls12(CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "ECDHE-RSA-AES128-GCM-SHA256", RSA, AES_128),
];

const fn tls12(suite: CipherSuite, name: &'static str, signature: &'static str, cipher: &'static str) -> Tls12 {
    Tls12 { suite, name, groups: [EVERY, signature, cipher] }
}

const EVERY: &str = "ALL DEFAULT HIGH ECDHE EECDH kECDHE kEECDH TLSv1.2";
const ECDSA: &str = "aECDSA ECDSA";
const RSA: &str = "aRSA";
const AES_256: &str = "AES AES256 AESGCM SHA384";
const AES_128: &str = "AES AES128 AESGCM SHA256";
const CHACHA20: &str = "CHACHA20";

/// In the order of preference.
const TLS13: [(CipherSuite, &str); 3] = [
    (CipherSuite::TLS13_AES_256_GCM_SHA384, "TLS_AES_256_GCM_SHA384"),
    (CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, "TLS_CHACHA20_POLY1305_SHA256"),
    (CipherSuite::TLS13_AES_128_GCM_SHA256, "TLS_AES_128_GCM_SHA256"),
];

impl Tls12 {
    /// Whether `word` is its name, or groups it is in, joined by `+`.
    fn is_meant_by(&self, word: &str) -> bool {
        word.split('+').all(|part| {
            part == self.name || self.groups.iter().any(|group| group.split(' ').any(|member| member == part))
        })
    }
}

/// rustls's algorithms with the ciphers asked for; None asks for all. Errors are Redis's log lines.
pub(super) fn provider(ciphers: Option<&str>, ciphersuites: Option<&str>) -> Result<CryptoProvider, String> {
    let mut provider = ring::default_provider();
    let tls12 = tls12_suites(ciphers.unwrap_or("DEFAULT"));
    if tls12.is_empty() {
        return Err(format!("Failed to configure ciphers: {}", ciphers.unwrap_or_default()));
    }
    let tls13 = ciphersuites.map_or_else(|| TLS13.iter().map(|(suite, _)| *suite).collect(), tls13_suites);
    if tls13.is_empty() {
        return Err(format!("Failed to configure ciphersuites: {}", ciphersuites.unwrap_or_default()));
    }
    let known = std::mem::take(&mut provider.cipher_suites);
    let find = |wanted: &CipherSuite| known.iter().find(|known| known.suite() == *wanted).copied();
    provider.cipher_suites = tls13.iter().chain(&tls12).filter_map(find).collect::<Vec<SupportedCipherSuite>>();
    Ok(provider)
}

/// OpenSSL's cipher list: `name` appends, `-name` takes out, `!name` takes out for good, `+name` moves to the end.
fn tls12_suites(list: &str) -> Vec<CipherSuite> {
    let mut chosen: Vec<&Tls12> = Vec::new();
    let mut banned: Vec<&str> = Vec::new();
    for word in words(list) {
        let (sign, name) = match word.split_at_checked(1) {
            Some((sign @ ("-" | "!" | "+"), name)) => (sign, name),
            _ => ("", word),
        };
        let meant: Vec<&Tls12> = TLS12.iter().filter(|cipher| cipher.is_meant_by(name)).collect();
        let is_meant = |cipher: &&Tls12| meant.iter().any(|other| other.name == cipher.name);
        match sign {
            "+" => chosen.sort_by_key(is_meant),
            "" => {
                let is_new = |cipher: &&Tls12| {
                    !banned.contains(&cipher.name) && !chosen.iter().any(|other| other.name == cipher.name)
                };
                let added: Vec<_> = meant.into_iter().filter(is_new).collect();
                chosen.extend(added);
            }
            _ => {
                chosen.retain(|cipher| !is_meant(cipher));
                if sign == "!" {
                    banned.extend(meant.iter().map(|cipher| cipher.name));
                }
            }
        }
    }
    chosen.into_iter().map(|cipher| cipher.suite).collect()
}

fn tls13_suites(list: &str) -> Vec<CipherSuite> {
    let find = |word| TLS13.iter().find(|(_, name)| *name == word).map(|(suite, _)| *suite);
    words(list).filter_map(find).collect()
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split([':', ',', ';', ' ']).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &str) -> String {
        let name = |suite: CipherSuite| TLS12.iter().find(|cipher| cipher.suite == suite).map_or("?", |c| c.name);
        tls12_suites(list).into_iter().map(name).collect::<Vec<_>>().join(":")
    }

    #[test]
    fn cipher_lists_are_read_as_openssl_does() {
        assert_eq!(tls12_suites("DEFAULT").len(), 6);
        assert_eq!(
            names("ECDHE-RSA-AES128-GCM-SHA256:AES128-SHA256:ECDHE-RSA-AES256-GCM-SHA384"),
            "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384"
        );
        assert_eq!(names("aRSA+AES"), "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256");
        assert_eq!(names("HIGH:!aECDSA:-CHACHA20:+AES256"), "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384");
        assert_eq!(names("!CHACHA20, CHACHA20;@STRENGTH"), "");
        assert_eq!(names("AES128-SHA256:AES256-SHA256"), "");
    }

    #[test]
    fn every_name_is_one_of_rustls() {
        let provider = provider(None, None).unwrap();
        assert_eq!(provider.cipher_suites.len(), ring::default_provider().cipher_suites.len());
        let only = super::provider(Some("ECDHE"), Some("TLS_AES_128_GCM_SHA256")).unwrap();
        assert_eq!(only.cipher_suites[0].suite(), CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(only.cipher_suites.len(), 7);
    }

    #[test]
    fn a_list_of_nothing_is_refused() {
        let refused = |ciphers, suites| provider(ciphers, suites).err();
        assert_eq!(refused(Some("RC4-MD5"), None).as_deref(), Some("Failed to configure ciphers: RC4-MD5"));
        assert_eq!(
            refused(None, Some("TLS_AES_128_CCM_SHA256")).as_deref(),
            Some("Failed to configure ciphersuites: TLS_AES_128_CCM_SHA256")
        );
    }
}
