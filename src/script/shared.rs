//! What belongs to a Lua state on the Rust side: its memory count, the host of the running script, and the buffers
//! that callbacks reuse.
//!
//! The state's allocator is given a pointer to it, so a callback finds it in one call. Fields are cells: a callback
//! holds a shared reference while Lua calls the allocator, which changes the count. Buffers live here and not in
//! callbacks, because an error in Lua skips destructors.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, realloc};
use std::cell::{Cell, UnsafeCell};
use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::debugger::Debugger;
use crate::host::{Host, Resp};
use crate::lua::{CFunction, RawState};
use crate::random::Random;
use crate::register::Registrations;
use crate::to_resp::Frame;
use crate::vm::Options;
use crate::{cjson_decode, cjson_encode};

/// What the state is doing, as far as callbacks care.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing: no host is there.
    Idle,
    /// EVAL or FCALL: every `redis.*` function works.
    Running,
    /// FUNCTION LOAD: functions may be registered, commands may not be called.
    Loading,
}

/// One per Lua state, boxed, at a fixed address.
pub(crate) struct Shared {
    used_bytes: Cell<usize>,
    /// What of that is in `total_bytes`, which several states may share.
    told_bytes: Cell<usize>,
    total_bytes: Arc<AtomicUsize>,
    limit_bytes: Cell<usize>,
    /// From here on no more scripts are kept.
    full_bytes: usize,
    host: Cell<Option<NonNull<dyn Host>>>,
    /// The [`Debugger`] of a script that is debugged.
    debugger: Cell<Option<NonNull<c_void>>>,
    pub(crate) phase: Cell<Phase>,
    /// The host said [`crate::Tick::Kill`].
    pub(crate) killed: Cell<bool>,
    /// The next allocation fails, once: see [`Shared::fail_next_allocation`].
    starve: Cell<bool>,
    /// What the script chose by `redis.setresp`.
    pub(crate) script_resp: Cell<Resp>,
    pub(crate) main: Cell<*mut RawState>,
    pub(crate) random: Cell<Random>,
    /// A script called `collectgarbage` with an option that outlives it.
    pub(crate) gc_changed: Cell<bool>,
    /// A script called `setfenv(0, ...)`.
    pub(crate) globals_changed: Cell<bool>,
    /// Functions of Lua's own libraries that ours check arguments for.
    pub(crate) wrapped: Cell<Wrapped>,
    killed_at: UnsafeCell<Vec<u8>>,
    args: UnsafeCell<Vec<&'static [u8]>>,
    numbers: UnsafeCell<Vec<u8>>,
    reply: UnsafeCell<Vec<u8>>,
    text: UnsafeCell<Vec<u8>>,
    frames: UnsafeCell<Vec<Frame>>,
    json_frames: UnsafeCell<Vec<cjson_encode::Frame>>,
    json_levels: UnsafeCell<Vec<cjson_decode::Level>>,
    registrations: UnsafeCell<Registrations>,
}

/// The originals behind checked functions; none before the sandbox is built.
#[derive(Clone, Copy, Default)]
pub(crate) struct Wrapped {
    pub(crate) find: Option<CFunction>,
    pub(crate) matches: Option<CFunction>,
    pub(crate) gmatch: Option<CFunction>,
    pub(crate) gsub: Option<CFunction>,
    pub(crate) insert: Option<CFunction>,
    pub(crate) setfenv: Option<CFunction>,
    pub(crate) collectgarbage: Option<CFunction>,
}

impl Shared {
    pub(crate) fn new(options: &Options) -> Shared {
        Shared {
            used_bytes: Cell::new(0),
            told_bytes: Cell::new(0),
            total_bytes: options.total_bytes.clone(),
            limit_bytes: Cell::new(options.max_state_bytes),
            full_bytes: options.max_state_bytes.saturating_sub(options.reserved_bytes),
            host: Cell::new(None),
            debugger: Cell::new(None),
            phase: Cell::new(Phase::Idle),
            killed: Cell::new(false),
            starve: Cell::new(false),
            script_resp: Cell::new(Resp::V2),
            main: Cell::new(ptr::null_mut()),
            random: Cell::new(Random::default()),
            gc_changed: Cell::new(false),
            globals_changed: Cell::new(false),
            wrapped: Cell::new(Wrapped::default()),
            killed_at: UnsafeCell::default(),
            args: UnsafeCell::default(),
            numbers: UnsafeCell::default(),
            reply: UnsafeCell::default(),
            text: UnsafeCell::default(),
            frames: UnsafeCell::default(),
            json_frames: UnsafeCell::default(),
            json_levels: UnsafeCell::default(),
            registrations: UnsafeCell::default(),
        }
    }

    /// Bytes the Lua state holds now.
    pub(crate) fn used_bytes(&self) -> usize {
        self.used_bytes.get()
    }

    /// Adds what has changed to the sum of all states, unless it is so little that the atomic addition would cost more
    /// than it is worth.
    #[inline]
    fn tell(&self) {
        if self.used_bytes.get().abs_diff(self.told_bytes.get()) >= TOLD_BYTES {
            self.tell_now(self.used_bytes.get());
        }
    }

    fn tell_now(&self, bytes: usize) {
        // Two's complement: the sum of all differences is the sum.
        self.total_bytes.fetch_add(bytes.wrapping_sub(self.told_bytes.replace(bytes)), Ordering::Relaxed);
    }

    /// The most that text under construction may hold outside the state: a few large strings named many times make
    /// more of it than any memory holds.
    pub(crate) fn text_limit_bytes(&self) -> usize {
        self.limit_bytes.get() / 2
    }

    /// Whether no more scripts are kept: what is left is for those that run.
    pub(crate) fn is_nearly_full(&self) -> bool {
        self.used_bytes.get() > self.full_bytes
    }

    /// Lends `host` to callbacks until the guard is dropped.
    pub(crate) fn enter<'a>(&'a self, host: &'a mut (dyn Host + 'a), phase: Phase) -> Entered<'a> {
        let host: NonNull<dyn Host + 'a> = NonNull::from(host);
        // SAFETY: only the lifetime is erased; `Entered` takes the pointer away before `'a` ends.
        let host: NonNull<dyn Host> = unsafe { std::mem::transmute(host) };
        self.host.set(Some(host));
        self.phase.set(phase);
        self.killed.set(false);
        self.killed_at().clear();
        self.script_resp.set(Resp::V2);
        Entered(self)
    }

    /// Lends `debugger` to callbacks, too, for as long as the host is.
    pub(crate) fn enter_debugger<'a>(&'a self, _host: &Entered<'a>, debugger: &'a mut Debugger<'_>) {
        self.debugger.set(Some(NonNull::from(debugger).cast()));
    }

    /// The debugger, if the running script is debugged. Nobody keeps it across a call of Lua that may run code.
    #[allow(clippy::mut_from_ref)]
    #[inline]
    pub(crate) fn debugger<'a>(&'a self) -> Option<&'a mut Debugger<'a>> {
        // SAFETY: as `host`: `enter_debugger` put it here for as long as the host is; callbacks use it one after the
        // other, each for as long as it does not run Lua code.
        self.debugger.get().map(|debugger| unsafe { debugger.cast::<Debugger<'a>>().as_mut() })
    }

    /// The host, if a script is running.
    #[allow(clippy::mut_from_ref)]
    pub(crate) fn host(&self) -> Option<&mut dyn Host> {
        // SAFETY: `enter` borrowed the host mutably for as long as it is here, and a callback uses it for one call,
        // during which Lua does not run, so no second callback does.
        self.host.get().map(|mut host| unsafe { host.as_mut() })
    }

    /// Where the script was when it was killed: `@user_script:1`.
    #[allow(clippy::mut_from_ref)]
    pub(crate) fn killed_at(&self) -> &mut Vec<u8> {
        // SAFETY: as `text`.
        unsafe { &mut *self.killed_at.get() }
    }

    /// Makes Lua raise an error that no error handler sees, at its next allocation.
    pub(crate) fn fail_next_allocation(&self) {
        self.starve.set(true);
    }

    /// The arguments of one command. Slices point into Lua strings on the stack, or into `numbers`.
    #[allow(clippy::mut_from_ref)]
    pub(crate) fn args(&self) -> &mut Vec<&'static [u8]> {
        // SAFETY: as `text`.
        unsafe { &mut *self.args.get() }
    }

    #[allow(clippy::mut_from_ref)]
    pub(crate) fn numbers(&self) -> &mut Vec<u8> {
        // SAFETY: as `text`.
        unsafe { &mut *self.numbers.get() }
    }

    #[allow(clippy::mut_from_ref)]
    pub(crate) fn reply(&self) -> &mut Vec<u8> {
        // SAFETY: as `text`.
        unsafe { &mut *self.reply.get() }
    }

    /// A buffer for text under construction, cleared by its user.
    #[allow(clippy::mut_from_ref)]
    pub(crate) fn text(&self) -> &mut Vec<u8> {
        // SAFETY: a buffer is used by one callback at a time, and no callback that uses one calls Lua code: only raw
        // table access, conversions and pushes happen meanwhile. The state is used by one thread at a time.
        unsafe { &mut *self.text.get() }
    }

    #[allow(clippy::mut_from_ref)]
    pub(crate) fn frames(&self) -> &mut Vec<Frame> {
        // SAFETY: as `text`.
        unsafe { &mut *self.frames.get() }
    }

    #[allow(clippy::mut_from_ref)]
    pub(crate) fn json_frames(&self) -> &mut Vec<cjson_encode::Frame> {
        // SAFETY: as `text`.
        unsafe { &mut *self.json_frames.get() }
    }

    #[allow(clippy::mut_from_ref)]
    pub(crate) fn json_levels(&self) -> &mut Vec<cjson_decode::Level> {
        // SAFETY: as `text`.
        unsafe { &mut *self.json_levels.get() }
    }

    /// What the library being loaded registered so far.
    #[allow(clippy::mut_from_ref)]
    pub(crate) fn registrations(&self) -> &mut Registrations {
        // SAFETY: as `text`.
        unsafe { &mut *self.registrations.get() }
    }

    /// Gives the memory of unusually large buffers back.
    pub(crate) fn trim(&self) {
        trim(self.args(), 1024);
        trim(self.numbers(), BUFFER_KEPT_BYTES);
        trim(self.reply(), BUFFER_KEPT_BYTES);
        trim(self.text(), BUFFER_KEPT_BYTES);
        trim(self.frames(), 1024);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.tell_now(0);
    }
}

fn trim<T>(buffer: &mut Vec<T>, kept: usize) {
    if buffer.capacity() > kept {
        buffer.clear();
        buffer.shrink_to(kept);
    }
}

/// While it lives, callbacks reach the host.
pub(crate) struct Entered<'a>(&'a Shared);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.host.set(None);
        self.0.debugger.set(None);
        self.0.phase.set(Phase::Idle);
        self.0.trim();
    }
}

/// Lua's memory, through the process's global allocator, counted.
pub(crate) unsafe extern "C" fn allocate(
    user: *mut c_void,
    block: *mut c_void,
    old_size: usize,
    new_size: usize,
) -> *mut c_void {
    // SAFETY: `user` is the `Shared` that `Vm` made the state with.
    let shared = unsafe { &*user.cast::<Shared>() };
    let old_size = if block.is_null() { 0 } else { old_size };
    let kept = shared.used_bytes.get().saturating_sub(old_size);
    let grows = new_size > old_size;
    let fits = |used: &usize| !grows || (*used <= shared.limit_bytes.get() && !shared.starve.replace(false));
    let Some(used) = kept.checked_add(new_size).filter(fits) else {
        return ptr::null_mut();
    };
    let (Ok(old), Ok(new)) =
        (Layout::from_size_align(old_size, LUA_ALIGN), Layout::from_size_align(new_size, LUA_ALIGN))
    else {
        return ptr::null_mut();
    };
    let block = block.cast::<u8>();
    // SAFETY: Lua gives back blocks this function made, with their size, and sizes of 0 never reach the allocator.
    let block = unsafe {
        match (old_size, new_size) {
            (0, 0) => ptr::null_mut(),
            (0, _) => alloc(new),
            (_, 0) => {
                dealloc(block, old);
                ptr::null_mut()
            }
            _ => realloc(block, old, new_size),
        }
    };
    if new_size == 0 || !block.is_null() {
        shared.used_bytes.set(used);
        shared.tell();
    }
    block.cast()
}

/// The strictest alignment Lua 5.1 asks for (double, pointer, long).
const LUA_ALIGN: usize = 8;
/// A state's bytes are in the sum to within this.
const TOLD_BYTES: usize = 16 << 10;
/// Buffers above this are given back after a script.
const BUFFER_KEPT_BYTES: usize = 1 << 20;
