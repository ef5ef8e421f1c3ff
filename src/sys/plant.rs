//! Bugs planted to see whether the models find them: `.ci/models` builds with `--cfg threadbus_plant` and names one at a time in
//! `THREADBUS_PLANT`. Each is one line where it would be made by mistake; tests/MODELS.md lists them.

/// Whether this bug is in: never in any other build, where the question costs nothing.
#[cfg(not(threadbus_plant))]
#[inline(always)]
pub(crate) const fn planted(_bug: &str) -> bool {
    false
}

#[cfg(threadbus_plant)]
pub(crate) fn planted(bug: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("THREADBUS_PLANT").unwrap_or_default()) == bug
}
