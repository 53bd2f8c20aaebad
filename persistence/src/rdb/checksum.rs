//! CRC-64 as Redis uses it (the polynomial of David Jones, reflected, initial value 0, no final xor).
//!
//! Sixteen bytes a step through sixteen tables of 2 KiB: above 1 GB/s without `unsafe`.

/// The Jones polynomial 0xad93d23594c935a9 with its bits reversed.
const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;

static TABLES: [[u64; 256]; 16] = tables();

/// Continues the checksum `crc` over `bytes`; start with 0.
pub fn crc64(mut crc: u64, bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<16>();
    for block in blocks {
        let [b0, b1, b2, b3, b4, b5, b6, b7, tail @ ..] = *block;
        let head = (crc ^ u64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7])).to_le_bytes();
        crc = 0;
        for (i, byte) in head.iter().enumerate() {
            crc ^= TABLES[15 - i][usize::from(*byte)];
        }
        for (i, byte) in tail.iter().enumerate() {
            crc ^= TABLES[7 - i][usize::from(*byte)];
        }
    }
    for byte in rest {
        crc = TABLES[0][usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8);
    }
    crc
}

/// `TABLES[k][b]` is the checksum of byte `b` followed by `k` zero bytes.
const fn tables() -> [[u64; 256]; 16] {
    let mut tables = [[0u64; 256]; 16];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut k = 1;
    while k < 16 {
        let mut byte = 0;
        while byte < 256 {
            let shorter = tables[k - 1][byte];
            tables[k][byte] = tables[0][(shorter & 0xff) as usize] ^ (shorter >> 8);
            byte += 1;
        }
        k += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_value_of_the_jones_polynomial() {
        assert_eq!(crc64(0, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        assert_eq!(crc64(0, b""), 0);
    }

    #[test]
    fn any_split_gives_the_same_sum() {
        let bytes: Vec<u8> = (0..1000u32).map(|i| (i * 7 + i / 13) as u8).collect();
        let whole = crc64(0, &bytes);
        for cut in 0..bytes.len() {
            assert_eq!(crc64(crc64(0, &bytes[..cut]), &bytes[cut..]), whole, "cut at {cut}");
        }
    }
}
