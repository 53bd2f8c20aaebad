//! `redis.conf`: any text is a configuration or an error, and what it says comes back as it was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redstart::config::{Directive, Sources, get, load, rewrite};
use redstart_fuzz::memory::bounded;

fuzz_target!(|input: &[u8]| {
    // Other files are read from there.
    if input.to_ascii_lowercase().windows(7).any(|word| word == b"include") {
        return;
    }
    let read = |text: &[u8]| load(&Sources { stdin: Some(text.to_vec()), ..Sources::default() });
    let loaded = bounded(input.len(), || read(input));
    let Ok(loaded) = loaded else { return };
    // Addresses are written with spaces between them, as Redis does it: what is no address may not come back.
    let is_address = |address: &String| !address.is_empty() && address.chars().all(|sign| sign.is_ascii_graphic());
    if !loaded.config.bind.iter().all(is_address) {
        return;
    }
    let mut config = loaded.config.clone();
    for (name, _) in get(&loaded.config, &[b"*"]) {
        let directive = Directive::find(&name).expect("CONFIG GET shows directives");
        let value = directive.get(&loaded.config);
        if directive.name != "replicaof" {
            let name = directive.name;
            directive
                .set(&mut config, &value)
                .unwrap_or_else(|error| panic!("{name} {}: {error}", value.escape_ascii()));
        }
    }
    assert_eq!(config, loaded.config);
    let rewritten = rewrite(input, &loaded.config, &[], false);
    let again = read(&rewritten).unwrap_or_else(|error| panic!("{}: {error}", rewritten.escape_ascii()));
    assert_eq!(again.config, loaded.config, "rewritten: {}", rewritten.escape_ascii());
});
