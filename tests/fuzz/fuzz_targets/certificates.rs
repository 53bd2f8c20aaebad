//! Chains of certificates of all versions: what is trusted is what OpenSSL trusts; foreign bytes are never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redstart::socket::tls::{Purpose, chain::Authorities};
use redstart_fuzz::certificates::{Keys, NOW_S, World};
use redstart_fuzz::choices::Choices;
use rustls::pki_types::{CertificateDer, UnixTime};
use std::sync::LazyLock;
use std::time::Duration;

static KEYS: LazyLock<Keys> = LazyLock::new(Keys::new);

fuzz_target!(|input: &[u8]| {
    check(&World::new(&mut Choices::new(input), &KEYS));
    // The bytes as they are, as a certificate.
    check(&World {
        trusted: vec![input.to_vec()],
        sent: vec![input.to_vec()],
        shown: input.to_vec(),
        is_client: true,
        is_damaged: true,
    });
});

fn check(world: &World) {
    let certificates = |all: &[Vec<u8>]| all.iter().cloned().map(CertificateDer::from).collect::<Vec<_>>();
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    let authorities = Authorities::new(&certificates(&world.trusted), algorithms);
    let purpose = if world.is_client { Purpose::Client } else { Purpose::Server };
    let now = UnixTime::since_unix_epoch(Duration::from_secs(NOW_S as u64));
    let verdict = authorities.verify(&world.shown, &certificates(&world.sent), purpose, now);
    match (&verdict, world.is_trusted_by_openssl()) {
        (Ok(()), false) => assert!(world.has_namesakes(), "OpenSSL refuses it\n{}", world.show()),
        (Err(error), true) => assert!(world.is_damaged, "OpenSSL trusts it: {error:?}\n{}", world.show()),
        _ => {}
    }
}
