//! Is there an order of all operations, in which each happens at one instant between its call and its return, that
//! explains every result? (Linearizability, Herlihy and Wing.)
//!
//! The events are gone through in time. What is known after each is a set of possibilities: a state, and which of the
//! operations under way have happened already. When one returns, only those possibilities stay in which it has
//! happened; if none does, the history cannot be explained. Equal possibilities are kept once, so the work for an
//! event depends on how many operations run at once, not on how long the history is.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;

/// What the operations act on.
pub(crate) trait Model {
    type State: Clone + Eq + Hash + Debug;
    /// An operation with its result.
    type Op: Debug;

    /// The state after `op`; `None` if in this state it could not have had its result.
    fn step(state: &Self::State, op: &Self::Op) -> Option<Self::State>;

    /// Whether `op`, with this result, leaves every state as it is.
    fn only_looks(op: &Self::Op) -> bool;
}

/// One operation of one client, of which a client has one at a time.
#[derive(Debug)]
pub(crate) struct Event<Op> {
    pub(crate) client: usize,
    /// Moments of one clock for all clients.
    pub(crate) called: u64,
    pub(crate) returned: u64,
    pub(crate) op: Op,
}

/// A state, and a bit for each client whose operation under way has happened.
type Possibility<State> = (State, u64);
type Possibilities<State> = HashSet<Possibility<State>, foldhash::fast::FixedState>;

/// Why a history cannot be explained: the operation at whose return it failed, and what was going on.
pub(crate) fn check<M: Model>(initial: M::State, events: &[Event<M::Op>]) -> Result<(), String> {
    let mut moments: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * events.len());
    for (index, event) in events.iter().enumerate() {
        assert!(event.client < 64 && event.called < event.returned);
        moments.push((event.called, true, index));
        moments.push((event.returned, false, index));
    }
    moments.sort_unstable();
    let mut under_way: Vec<usize> = Vec::new();
    let mut possible: Possibilities<M::State> = [(initial, 0)].into_iter().collect();
    for (_, is_call, index) in moments {
        if is_call {
            under_way.push(index);
            continue;
        }
        let next = possibilities_with::<M>(&possible, events, &under_way, index);
        if next.is_empty() {
            let others: Vec<_> = under_way.iter().map(|index| &events[*index]).collect();
            let states: Vec<_> = possible.iter().take(5).collect();
            let mut before: Vec<_> = events.iter().filter(|event| event.returned < events[index].returned).collect();
            before.sort_unstable_by_key(|event| std::cmp::Reverse(event.returned));
            before.truncate(20);
            return Err(format!(
                "{:?} cannot have had this result.\nUnder way: {others:?}\nStates before: {states:?}\n\
                 Before, the last one first: {before:#?}",
                events[index]
            ));
        }
        under_way.retain(|other| *other != index);
        possible = next;
    }
    Ok(())
}

/// All possibilities in which the operation `returning` has happened, with or without others that are under way.
fn possibilities_with<M: Model>(
    possible: &Possibilities<M::State>,
    events: &[Event<M::Op>],
    under_way: &[usize],
    returning: usize,
) -> Possibilities<M::State> {
    let done = 1 << events[returning].client;
    let mut open: Vec<_> = possible.iter().map(|known| absorb::<M>(known.clone(), events, under_way)).collect();
    let mut seen: Possibilities<M::State> = open.iter().cloned().collect();
    let mut with = Possibilities::<M::State>::default();
    while let Some((state, happened)) = open.pop() {
        if happened & done != 0 {
            with.insert((state, happened & !done));
            continue;
        }
        for event in under_way.iter().map(|index| &events[*index]) {
            let bit = 1 << event.client;
            if happened & bit != 0 {
                continue;
            }
            if let Some(state) = M::step(&state, &event.op) {
                let possibility = absorb::<M>((state, happened | bit), events, under_way);
                if seen.insert(possibility.clone()) {
                    open.push(possibility);
                }
            }
        }
    }
    with
}

/// The same possibility with everything happened that only looks and may happen now: waiting with that gains nothing,
/// and not having to try both keeps the possibilities few.
fn absorb<M: Model>(
    (state, mut happened): Possibility<M::State>,
    events: &[Event<M::Op>],
    under_way: &[usize],
) -> Possibility<M::State> {
    for event in under_way.iter().map(|index| &events[*index]) {
        if M::only_looks(&event.op) && M::step(&state, &event.op).is_some() {
            happened |= 1 << event.client;
        }
    }
    (state, happened)
}

mod tests {
    use super::*;

    /// A register.
    struct Register;

    #[derive(Debug, Clone, Copy)]
    enum Op {
        Read(i64),
        Write(i64),
    }

    impl Model for Register {
        type State = i64;
        type Op = Op;

        fn step(state: &i64, op: &Op) -> Option<i64> {
            match op {
                Op::Read(value) => (state == value).then_some(*value),
                Op::Write(value) => Some(*value),
            }
        }

        fn only_looks(op: &Op) -> bool {
            matches!(op, Op::Read(_))
        }
    }

    fn explains(events: &[(usize, u64, u64, Op)]) -> bool {
        let event = |&(client, called, returned, op): &(usize, u64, u64, Op)| Event { client, called, returned, op };
        check::<Register>(0, &events.iter().map(event).collect::<Vec<_>>()).is_ok()
    }

    #[test]
    fn histories_that_can_be_explained() {
        assert!(explains(&[(0, 1, 2, Op::Write(1)), (0, 3, 4, Op::Read(1))]));
        // Two writes at once may happen in either order, and a read among them may come first.
        assert!(explains(&[(0, 1, 5, Op::Write(1)), (1, 2, 6, Op::Write(2)), (2, 7, 8, Op::Read(1))]));
        assert!(explains(&[(0, 1, 5, Op::Write(1)), (1, 2, 6, Op::Write(2)), (2, 7, 8, Op::Read(2))]));
        assert!(explains(&[(0, 1, 5, Op::Write(1)), (1, 2, 3, Op::Read(0)), (2, 4, 6, Op::Read(1))]));
        // A write of what is there already may come late all the same.
        let back_again =
            [(0, 1, 8, Op::Write(0)), (1, 2, 3, Op::Write(1)), (2, 4, 5, Op::Read(1)), (2, 6, 7, Op::Read(0))];
        assert!(explains(&back_again));
    }

    #[test]
    fn histories_that_cannot() {
        // A read of what has been overwritten; of what is not written yet; of a value that was gone already.
        assert!(!explains(&[(0, 1, 2, Op::Write(1)), (0, 3, 4, Op::Write(2)), (1, 5, 6, Op::Read(1))]));
        assert!(!explains(&[(1, 1, 2, Op::Read(1)), (0, 3, 4, Op::Write(1))]));
        assert!(!explains(&[(0, 1, 9, Op::Write(1)), (1, 2, 3, Op::Read(1)), (2, 4, 5, Op::Read(0))]));
    }
}
