//! The hash of keys, fields and members: SipHash-1-3, whose whole key of 128 bits is a secret of the server.
//!
//! SipHash is a pseudorandom function: who may choose what is hashed and sees hashes, as SCAN's cursors show parts of
//! them, learns neither the key nor the hash of anything else. Faster hashes promise less.

use rand::RngCore;
use siphasher::sip::SipHasher13;
use std::fmt;

/// A server's secret key for hashing.
#[derive(Clone, Copy)]
pub struct HashSeed {
    key: [u64; 2],
    /// Bits of a hash that are used: all, but in tests of equal hashes.
    kept: u64,
}

impl HashSeed {
    /// This key.
    pub const fn new(key: [u64; 2]) -> Self {
        HashSeed { key, kept: u64::MAX }
    }

    /// A key drawn from a source that nobody can foresee.
    pub fn random(source: &mut impl RngCore) -> Self {
        Self::new([source.next_u64(), source.next_u64()])
    }

    /// Clears all but these bits of every hash: for tests and fuzzers, which need equal hashes and cannot make any.
    pub const fn keeping(self, bits: u64) -> Self {
        HashSeed { kept: bits, ..self }
    }

    /// The hash of `bytes`.
    #[inline]
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        SipHasher13::new_with_keys(self.key[0], self.key[1]).hash(bytes) & self.kept
    }
}

/// Does not show the secret.
impl fmt::Debug for HashSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashSeed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_of_the_key_and_every_byte_count() {
        let bytes: Vec<u8> = (0..64).collect();
        for len in 0..=64 {
            let hash = HashSeed::new([1, 2]).hash(&bytes[..len]);
            assert_ne!(hash, HashSeed::new([0, 2]).hash(&bytes[..len]));
            assert_ne!(hash, HashSeed::new([1, 3]).hash(&bytes[..len]));
            for changed in 0..len {
                let mut other = bytes[..len].to_vec();
                other[changed] ^= 0x80;
                assert_ne!(hash, HashSeed::new([1, 2]).hash(&other));
            }
        }
    }

    /// Bytes for which a hash multiplies by zero when its constants are known, at each end, in the middle and doubled.
    #[test]
    fn known_constants_make_no_equal_hashes() {
        const CONSTANTS: [u64; 8] = [
            0x243f_6a88_85a3_08d3,
            0x1319_8a2e_0370_7344,
            0xa409_3822_299f_31d0,
            0x082e_fa98_ec4e_6c89,
            0x4528_21e6_38d0_1377,
            0xbe54_66cf_34e9_0c6c,
            0xc0ac_29b7_c97c_50dd,
            0x3f84_d5b5_b547_0917,
        ];
        let seed = HashSeed::new([3, 4]);
        for constant in CONSTANTS.map(u64::to_le_bytes) {
            let mut hashes = std::collections::HashSet::new();
            for n in 0..1000_u64 {
                let n = n.to_be_bytes();
                for key in [[n, constant].concat(), [constant, n].concat(), [n, n, constant, constant].concat()] {
                    hashes.insert(seed.hash(&key));
                }
            }
            assert_eq!(hashes.len(), 3000);
        }
    }

    #[test]
    fn a_seed_hides_and_a_mask_clears() {
        assert_eq!(format!("{:?}", HashSeed::new([1, 2])), "HashSeed");
        let seed = HashSeed::new([1, 2]).keeping(0xff);
        assert_eq!(seed.hash(b"a"), HashSeed::new([1, 2]).hash(b"a") & 0xff);
        assert_eq!(seed.keeping(0).hash(b"a"), seed.keeping(0).hash(b"b"));
    }
}
