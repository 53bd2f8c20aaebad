//! The types of `Config`'s fields that are not plain numbers, flags or text.

use std::fmt;

/// A value chosen from a fixed list of words.
pub(super) trait Choice: Copy + PartialEq + 'static {
    /// Every word that is accepted; CONFIG GET answers the first one of a value.
    const WORDS: &'static [(&'static str, Self)];
}

macro_rules! choices {
    ($($(#[$doc:meta])* $name:ident { $($word:literal $(| $alias:literal)? => $variant:ident),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $(#[doc = concat!("`", $word, "`")] $variant),+ }

        impl Choice for $name {
            const WORDS: &'static [(&'static str, Self)] =
                &[$(($word, $name::$variant) $(, ($alias, $name::$variant))?),+];
        }

        impl $name {
            /// The word for it in `redis.conf`.
            pub fn name(self) -> &'static str {
                Self::WORDS.iter().find(|(_, value)| *value == self).map_or("unknown", |(word, _)| word)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    )+};
}

choices! {
    /// Which keys go when `maxmemory` is reached.
    MaxmemoryPolicy {
        "volatile-lru" => VolatileLru, "volatile-lfu" => VolatileLfu, "volatile-random" => VolatileRandom,
        "volatile-ttl" => VolatileTtl, "allkeys-lru" => AllkeysLru, "allkeys-lfu" => AllkeysLfu,
        "allkeys-random" => AllkeysRandom, "noeviction" => NoEviction,
    }
    /// The syslog facility log lines are sent under.
    SyslogFacility {
        "user" => User, "local0" => Local0, "local1" => Local1, "local2" => Local2, "local3" => Local3,
        "local4" => Local4, "local5" => Local5, "local6" => Local6, "local7" => Local7,
    }
    /// The least important log line that is written; ordered from chatty to silent.
    LogLevel {
        "debug" => Debug, "verbose" => Verbose, "notice" => Notice, "warning" => Warning, "nothing" => Nothing,
    }
    /// The init system to report to.
    Supervised { "upstart" => Upstart, "systemd" => Systemd, "auto" => Auto, "no" => No }
    /// When the append-only file is flushed to disk.
    AppendFsync { "everysec" => EverySec, "always" => Always, "no" => No }
    /// Where a replica puts the RDB it receives.
    ReplDisklessLoad { "disabled" => Disabled, "on-empty-db" => OnEmptyDb, "swapdb" => SwapDb }
    /// Whether TLS clients must show a certificate.
    TlsAuthClients { "no" => No, "yes" => Yes, "optional" => Optional }
    /// Whether the kernel's out-of-memory score of the process is set.
    OomScoreAdj { "no" => No, "yes" | "relative" => Relative, "absolute" => Absolute }
    /// The pub/sub channels a new user may use.
    AclPubsubDefault { "allchannels" => AllChannels, "resetchannels" => ResetChannels }
    /// When the bytes of RESTORE and of RDB files are verified in depth.
    SanitizeDumpPayload { "no" => No, "yes" => Yes, "clients" => Clients }
    /// Who may use a dangerous command or directive.
    ProtectedAction { "no" => No, "yes" => Yes, "local" => Local }
    /// What cluster redirections name.
    ClusterEndpoint { "ip" => Ip, "hostname" => Hostname, "unknown-endpoint" => UnknownEndpoint }
    /// What happens when a replicated command fails.
    PropagationErrorBehavior { "ignore" => Ignore, "panic" => Panic, "panic-on-replicas" => PanicOnReplicas }
}

impl MaxmemoryPolicy {
    /// True if only keys with an expiry may be evicted.
    pub fn is_volatile(self) -> bool {
        matches!(self, Self::VolatileLru | Self::VolatileLfu | Self::VolatileRandom | Self::VolatileTtl)
    }

    /// True if keys have to remember how they were used.
    pub fn uses_clock(self) -> bool {
        matches!(self, Self::VolatileLru | Self::VolatileLfu | Self::AllkeysLru | Self::AllkeysLfu)
    }

    /// True if access frequency is what counts.
    pub fn is_lfu(self) -> bool {
        matches!(self, Self::VolatileLfu | Self::AllkeysLfu)
    }
}

/// `save <seconds> <changes>`: snapshot once both have been reached since the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SavePoint {
    /// Seconds since the last save.
    pub seconds: u64,
    /// Changes since the last save.
    pub changes: u64,
}

/// When a client is disconnected for not reading its replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutputLimit {
    /// At once above this; 0 = never.
    pub hard_bytes: u64,
    /// After `soft_seconds` above this; 0 = never.
    pub soft_bytes: u64,
    /// How long the soft limit may be exceeded.
    pub soft_seconds: u64,
}

/// Index into `Config::client_output_buffer_limit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientClass {
    /// Neither a replica nor a subscriber.
    Normal,
    /// A replica of ours (MONITOR counts as one).
    Replica,
    /// Subscribed to at least one channel or pattern.
    Pubsub,
}

impl ClientClass {
    pub(super) const ALL: [ClientClass; 3] = [Self::Normal, Self::Replica, Self::Pubsub];

    pub(super) fn parse(word: &[u8]) -> Option<Self> {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        match () {
            () if is("normal") => Some(Self::Normal),
            () if is("slave") || is("replica") => Some(Self::Replica),
            () if is("pubsub") => Some(Self::Pubsub),
            () => None,
        }
    }
}

/// `replicaof <host> <port>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterAddress {
    /// Name or address, as given.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// What SIGINT or SIGTERM does, as SHUTDOWN's options. All false = the default: save if there are save points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShutdownFlags {
    /// Save even without save points.
    pub save: bool,
    /// Do not save.
    pub nosave: bool,
    /// Do not wait for lagging replicas.
    pub now: bool,
    /// Exit even if saving fails.
    pub force: bool,
}

impl ShutdownFlags {
    /// The words of the directive with the flag each of them sets, in the order CONFIG GET lists them.
    pub(super) fn words(&mut self) -> [(&'static str, &mut bool); 4] {
        [("save", &mut self.save), ("nosave", &mut self.nosave), ("now", &mut self.now), ("force", &mut self.force)]
    }
}

/// The event classes `notify-keyspace-events` turns on; a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyspaceEvents(u32);

impl KeyspaceEvents {
    /// Nothing is published.
    pub const NONE: Self = Self(0);
    /// `K`: publish to `__keyspace@<db>__:<key>`.
    pub const KEYSPACE: Self = Self(1);
    /// `E`: publish to `__keyevent@<db>__:<event>`.
    pub const KEYEVENT: Self = Self(1 << 1);
    /// `g`: DEL, EXPIRE, RENAME, ...
    pub const GENERIC: Self = Self(1 << 2);
    /// `$`
    pub const STRING: Self = Self(1 << 3);
    /// `l`
    pub const LIST: Self = Self(1 << 4);
    /// `s`
    pub const SET: Self = Self(1 << 5);
    /// `h`
    pub const HASH: Self = Self(1 << 6);
    /// `z`
    pub const ZSET: Self = Self(1 << 7);
    /// `x`: a key expired.
    pub const EXPIRED: Self = Self(1 << 8);
    /// `e`: a key was evicted for `maxmemory`.
    pub const EVICTED: Self = Self(1 << 9);
    /// `t`
    pub const STREAM: Self = Self(1 << 10);
    /// `m`: a read found no key; not part of `A`.
    pub const KEY_MISS: Self = Self(1 << 11);
    /// `d`: module types.
    pub const MODULE: Self = Self(1 << 12);
    /// `n`: a key was created; not part of `A`.
    pub const NEW: Self = Self(1 << 13);
    /// `A`: `g$lshzxetd`.
    pub const ALL: Self = Self(0b1_0111_1111_1100);

    /// The classes in the order `notify-keyspace-events` prints them, `A` and what it stands for first.
    const LETTERS: [(u8, Self); 14] = [
        (b'g', Self::GENERIC),
        (b'$', Self::STRING),
        (b'l', Self::LIST),
        (b's', Self::SET),
        (b'h', Self::HASH),
        (b'z', Self::ZSET),
        (b'x', Self::EXPIRED),
        (b'e', Self::EVICTED),
        (b't', Self::STREAM),
        (b'd', Self::MODULE),
        (b'n', Self::NEW),
        (b'K', Self::KEYSPACE),
        (b'E', Self::KEYEVENT),
        (b'm', Self::KEY_MISS),
    ];

    /// True if every class of `other` is on.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// True if no class is on.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Both sets.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// `None` if a letter names no class.
    pub(super) fn parse(letters: &[u8]) -> Option<Self> {
        letters.iter().try_fold(Self::NONE, |events, letter| {
            let class = match letter {
                b'A' => Self::ALL,
                _ => Self::LETTERS.iter().find(|(known, _)| known == letter)?.1,
            };
            Some(events.union(class))
        })
    }

    /// The letters of the classes. As in Redis, `n` stays unnamed next to `A`.
    pub(super) fn letters(self) -> Vec<u8> {
        let all = self.contains(Self::ALL);
        let hidden = if all { Self::ALL.union(Self::NEW) } else { Self::NONE };
        let mut out = if all { vec![b'A'] } else { Vec::new() };
        let shown = Self::LETTERS.iter().filter(|(_, class)| self.contains(*class) && !hidden.contains(*class));
        out.extend(shown.map(|(letter, _)| letter));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyspace_event_letters() {
        for (given, printed) in
            [("", ""), ("KEA", "AKE"), ("$lshzxeKE", "$lshzxeKE"), ("Em", "Em"), ("g$lshzxetdE", "AE"), ("An", "A")]
        {
            let events = KeyspaceEvents::parse(given.as_bytes()).unwrap();
            assert_eq!(events.letters(), printed.as_bytes(), "{given}");
        }
        assert_eq!(KeyspaceEvents::parse(b"KEAq"), None);
        assert!(!KeyspaceEvents::ALL.contains(KeyspaceEvents::KEY_MISS));
        assert!(!KeyspaceEvents::ALL.contains(KeyspaceEvents::NEW));
    }

    #[test]
    fn names_are_the_first_word_of_a_value() {
        assert_eq!(OomScoreAdj::Relative.name(), "yes");
        assert_eq!(MaxmemoryPolicy::AllkeysLfu.to_string(), "allkeys-lfu");
        assert!(LogLevel::Debug < LogLevel::Nothing);
    }
}
