//! How entries get to consumers: XREADGROUP, XCLAIM and XAUTOCLAIM.
//!
//! Each operation hands over what a reply and the log need, one entry at a time; nothing is collected here.

use std::ops::Bound;

use super::entries::Entries;
use super::group::{ConsumerIdx, Group, Nack, Pending};
use super::id::StreamId;
use super::node::Entry;

/// How XCLAIM and XAUTOCLAIM take over a pending entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The present time, Unix time in milliseconds.
    pub now_ms: i64,
    /// Leave entries alone that were delivered less than this many milliseconds ago. 0 takes all.
    pub min_idle_ms: i64,
    /// What to record as the delivery time, Unix time in milliseconds.
    pub delivery_time_ms: i64,
    /// What to record as the number of deliveries; without it that number rises by one, unless `just_id`.
    pub retry_count: Option<u64>,
    /// Also take entries that are pending for nobody.
    pub force: bool,
    /// The consumer is told the ID only, which counts as no delivery.
    pub just_id: bool,
}

/// What became of an ID to claim.
#[derive(Clone)]
pub enum Claimed<'a> {
    /// The entry, and what is pending now.
    Entry(Entry<'a>, Pending<'a>),
    /// The stream has no such entry: it is no longer pending. Holds what was pending.
    Deleted(Pending<'a>),
}

impl Claimed<'_> {
    /// What is pending now, or was.
    pub fn pending(&self) -> &Pending<'_> {
        match self {
            Claimed::Entry(_, pending) | Claimed::Deleted(pending) => pending,
        }
    }
}

impl Group {
    /// XREADGROUP with `>`: gives `consumer` up to `count` entries (0 for all) behind the group's last ID and moves
    /// that on. `deliver` gets each entry, the group's last ID by then, and its pending entry, which with `no_ack`
    /// does not exist. Answers how many entries there were.
    pub fn read_new(
        &mut self,
        entries: &Entries,
        consumer: ConsumerIdx,
        count: u64,
        no_ack: bool,
        now_ms: i64,
        mut deliver: impl FnMut(&Entry<'_>, Option<Pending<'_>>),
    ) -> u64 {
        let Some(start) = self.last_id.next() else { return 0 };
        let limit = if count == 0 { usize::MAX } else { usize::try_from(count).unwrap_or(usize::MAX) };
        let mut delivered = 0;
        for entry in entries.range(start, StreamId::MAX).take(limit) {
            self.advance(entries, entry.id);
            if no_ack {
                deliver(&entry, None);
            } else {
                let nack = Nack { delivery_time_ms: now_ms, delivery_count: 1, consumer };
                self.assign(entry.id, nack);
                self.consumer_mut(consumer).active_time_ms = Some(now_ms);
                deliver(&entry, Some(self.describe(entry.id, &nack)));
            }
            delivered += 1;
        }
        delivered
    }

    /// XREADGROUP with an ID: gives `consumer` again up to `count` (0 for all) of what is pending for it behind
    /// `after`, counting that as a delivery. `deliver` gets no entry where the stream has it no longer.
    pub fn read_history(
        &mut self,
        entries: &Entries,
        consumer: ConsumerIdx,
        after: StreamId,
        count: u64,
        now_ms: i64,
        mut deliver: impl FnMut(StreamId, Option<&Entry<'_>>),
    ) {
        let limit = if count == 0 { usize::MAX } else { usize::try_from(count).unwrap_or(usize::MAX) };
        let owned = self.consumer(consumer).pel.range((Bound::Excluded(after), Bound::Unbounded));
        let ids: Vec<StreamId> = owned.take(limit).copied().collect();
        for id in ids {
            let entry = entries.get(id);
            if let (Some(_), Some(nack)) = (&entry, self.pel.get_mut(&id)) {
                nack.delivery_time_ms = now_ms;
                nack.delivery_count = nack.delivery_count.wrapping_add(1);
            }
            deliver(id, entry.as_ref());
        }
    }

    /// XCLAIM: makes `consumer` the owner of `id`; `None` if nothing changed.
    pub fn claim<'a>(
        &'a mut self,
        entries: &'a Entries,
        consumer: ConsumerIdx,
        id: StreamId,
        claim: &Claim,
    ) -> Option<Claimed<'a>> {
        let pending = self.pel.get(&id).copied();
        let Some(entry) = entries.get(id) else {
            let nack = pending?;
            self.ack(id);
            return Some(Claimed::Deleted(self.describe(id, &nack)));
        };
        let mut nack = match pending {
            Some(nack)
                if claim.min_idle_ms > 0 && claim.now_ms.saturating_sub(nack.delivery_time_ms) < claim.min_idle_ms =>
            {
                return None;
            }
            Some(nack) => nack,
            None if claim.force => Nack { delivery_time_ms: claim.now_ms, delivery_count: 1, consumer },
            None => return None,
        };
        nack.delivery_time_ms = claim.delivery_time_ms;
        nack.delivery_count = match claim.retry_count {
            Some(count) => count,
            None => nack.delivery_count.wrapping_add(u64::from(!claim.just_id)),
        };
        nack.consumer = consumer;
        self.assign(id, nack);
        self.consumer_mut(consumer).active_time_ms = Some(claim.now_ms);
        Some(Claimed::Entry(entry, self.describe(id, &nack)))
    }

    /// XAUTOCLAIM: claims up to `count` of the pending entries from `start` on, looking at no more than ten times as
    /// many. `visit` gets each one claimed or found deleted; both count. Answers where to go on, `0-0` at the end.
    pub fn auto_claim(
        &mut self,
        entries: &Entries,
        consumer: ConsumerIdx,
        start: StreamId,
        count: u64,
        claim: &Claim,
        mut visit: impl FnMut(Claimed<'_>),
    ) -> StreamId {
        let mut from = Bound::Included(start);
        let mut left = count;
        let mut attempts = count.saturating_mul(AUTO_CLAIM_ATTEMPTS);
        while let Some((&id, _)) = self.pel.range((from, Bound::Unbounded)).next() {
            if left == 0 || attempts == 0 {
                return id;
            }
            attempts -= 1;
            if let Some(claimed) = self.claim(entries, consumer, id, claim) {
                visit(claimed);
                left -= 1;
            }
            from = Bound::Excluded(id);
        }
        StreamId::MIN
    }

    /// Counts the entry `id` as read by the group and moves the last ID to it.
    fn advance(&mut self, entries: &Entries, id: StreamId) {
        self.entries_read = match self.entries_read {
            Some(read) if !entries.has_tombstone_from(id) => Some(read.wrapping_add(1)),
            _ => entries.rank_ever_added(id),
        };
        self.last_id = id;
    }
}

/// How many pending entries XAUTOCLAIM looks at for each one it may claim.
const AUTO_CLAIM_ATTEMPTS: u64 = 10;
