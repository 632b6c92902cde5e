//! The version of this program.

/// Cargo's version, and after it in brackets the commit, if scripts/build knows one: `0.2.0
/// (0123456789ab)`.
pub const VERSION: &str = match option_env!("VASSAL_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};
