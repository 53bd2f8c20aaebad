//! `math.random` and `math.randomseed`: the 48-bit linear congruential generator of `drand48`, so that a seed gives
//! the same numbers on every machine, and the same as Redis.

use crate::lua::{Lua, lua_fn};

/// The generator's 48 bits.
#[derive(Clone, Copy)]
pub(crate) struct Random(u64);

impl Default for Random {
    /// The state `lrand48` has before any seed.
    fn default() -> Random {
        Random(0x1234_ABCD_330E)
    }
}

impl Random {
    fn seeded(seed: i64) -> Random {
        Random((seed as u64 & 0xFFFF_FFFF) << 16 | 0x330E)
    }

    /// 31 random bits.
    fn next(self) -> (Random, u32) {
        let state = self.0.wrapping_mul(0x5_DEEC_E66D).wrapping_add(0xB) & 0xFFFF_FFFF_FFFF;
        (Random(state), (state >> 17) as u32)
    }
}

lua_fn! {
    /// `math.random()` in [0, 1); `math.random(m)` in [1, m]; `math.random(m, n)` in [m, n].
    pub(crate) fn random(lua) {
        let shared = lua.shared();
        let (state, bits) = shared.random.get().next();
        shared.random.set(state);
        let unit = f64::from(bits % MAX) / f64::from(MAX);
        let value = match lua.top() {
            0 => unit,
            1 => {
                let high = c_integer(lua, 1);
                if high < 1 {
                    lua.bad_argument(1, c"interval is empty");
                }
                (unit * f64::from(high)).floor() + 1.0
            }
            2 => {
                let (low, high) = (c_integer(lua, 1), c_integer(lua, 2));
                if low > high {
                    lua.bad_argument(2, c"interval is empty");
                }
                (unit * f64::from(high.wrapping_sub(low).wrapping_add(1))).floor() + f64::from(low)
            }
            _ => lua.raise_text(b"wrong number of arguments"),
        };
        lua.push_number(value);
        1
    }
}

lua_fn! {
    /// `math.randomseed(n)`: lasts until the next seed, over all scripts.
    pub(crate) fn random_seed(lua) {
        let seed = i64::from(c_integer(lua, 1));
        lua.shared().random.set(Random::seeded(seed));
        0
    }
}

/// The argument as C's `int`.
fn c_integer(lua: Lua, n: i32) -> i32 {
    lua.check_integer(n) as i32
}

const MAX: u32 = i32::MAX as u32;
