//! What XINFO STREAM answers as `radix-tree-nodes`: how many nodes Redis's radix tree would have for the same keys.

/// The nodes of Redis's rax that holds these 16-byte keys, given in rising order and all different.
///
/// Such a tree has a node at the end of each key, a node at each place where keys part, and one more for each run of
/// bytes in between that all keys below share; the byte taken at a parting place is in that place's node. Going from
/// one key to the next closes the parting places below what the two have in common.
pub(super) fn rax_nodes(keys: impl Iterator<Item = [u8; 16]>) -> u64 {
    let mut nodes = 0;
    // How many bytes into the key each parting place above the latest key lies, rising.
    let mut partings: Vec<usize> = Vec::new();
    let mut latest: Option<[u8; KEY_LEN]> = None;
    for key in keys {
        if let Some(latest) = latest.replace(key) {
            let common = latest.iter().zip(&key).take_while(|(a, b)| a == b).count();
            let (closed, top) = close(&mut partings, Some(common));
            nodes += closed + run(top - common - 1);
            if partings.last() != Some(&common) {
                partings.push(common);
            }
        }
    }
    match latest {
        Some(_) => {
            let (closed, root) = close(&mut partings, None);
            nodes + closed + run(root)
        }
        None => 1,
    }
}

const KEY_LEN: usize = 16;

/// Ends the latest key and closes the parting places deeper than `common`, or all of them. Answers the nodes counted
/// by that, and the depth of the topmost.
fn close(partings: &mut Vec<usize>, common: Option<usize>) -> (u64, usize) {
    let (mut nodes, mut top) = (1, KEY_LEN);
    while let Some(above) = partings.pop_if(|above| common.is_none_or(|common| *above > common)) {
        nodes += run(top - above - 1) + 1;
        top = above;
    }
    (nodes, top)
}

/// The nodes that hold `len` bytes without a parting.
fn run(len: usize) -> u64 {
    u64::from(len > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(keys: &[(u64, u64)]) -> u64 {
        rax_nodes(keys.iter().map(|&(ms, seq)| super::super::StreamId::new(ms, seq).to_bytes()))
    }

    #[test]
    fn counts_what_redis_answers() {
        assert_eq!(nodes(&[]), 1);
        assert_eq!(nodes(&[(1, 0)]), 2);
        // Part at the last byte: shared run, parting place, two ends.
        assert_eq!(nodes(&[(1, 0), (1, 1)]), 4);
        assert_eq!(nodes(&[(1, 0), (1, 1), (1, 2)]), 5);
        // Part at byte 7 and 15: run, parting, run, parting, two ends; run and an end.
        assert_eq!(nodes(&[(1, 0), (1, 1), (2, 0)]), 8);
        // Part at the first byte: no shared run above.
        assert_eq!(nodes(&[(1, 0), (u64::MAX, 0)]), 5);
    }
}
