//! `vassal`: a tiny init and a supervisor for apps in their own namespaces.
//!
//! Two programs share this library. `vassal-init` is PID 1 of one app's namespaces ([`init`]); `emperor`
//! keeps many of them running ([`emperor`]). The two modules never import each other: they talk by the
//! messages of [`protocol`].
//!
//! Data flows one way. A vassal: text → entries → settings → plan ([`config`]) → steps and main loop
//! ([`init`]). The emperor: files and events → registry (pure) → effects ([`emperor`]). `docs/glossary.md`
//! has the words.
//!
//! | module | job |
//! |---|---|
//! | [`config`] | uWSGI's ini dialect: parse, expand, check, explain mistakes; no system calls |
//! | [`cli`] | help, checks and mistakes on the command line |
//! | [`mount`] | mount flags, mountinfo, mount operations, FUSE facts |
//! | [`init`] | phases, hooks, privilege drop, reaper, watchdog, shutdown |
//! | [`emperor`] | directory scan, per-vassal state machine, spawning, event loop |
//! | [`protocol`] | messages and exit reasons between the two |
//! | [`accounts`], [`identity`] | names to ids, and the privilege drop |
//! | [`cgroup`] | files of control groups |
//! | [`signal_names`] | signals by name and by number |
//! | [`mod@names`] | tables of names without pointers |
//! | [`place`], [`listen`] | the address of a socket, and a socket that listens there |
//! | [`path`], [`retry`] | walks along paths that no link leads astray; errors that pass |
//! | [`running_time`] | deadlines, and the time that a frozen machine does not count |
//! | [`sys`] | the only unsafe code |
//! | [`files`] | files read with bounds |
//! | [`user_namespace`], [`outside`] | the IDs of a user namespace, and why there is none; whose files are |
//! | [`world`], [`command`], [`shell`] | what a configuration may ask for: files, the output of commands |
//! | [`asker`] | the same, where a file may hang |
//! | [`transcript`] | the same, with the answers of before |
//! | [`json`] | a writer of JSON |
//! | [`error`], [`mod@log`] | one error type, one place that writes log lines |
//! | [`version`] | which program this is |

pub mod accounts;
pub mod asker;
pub mod cgroup;
pub mod cli;
pub mod command;
pub mod config;
pub mod emperor;
pub mod error;
pub mod files;
pub mod identity;
pub mod init;
pub mod json;
pub mod listen;
pub mod log;
pub mod mount;
pub mod names;
pub mod outside;
pub mod path;
pub mod place;
pub mod protocol;
pub mod retry;
pub mod running_time;
pub mod shell;
pub mod signal_names;
pub mod sys;
pub mod transcript;
pub mod user_namespace;
pub mod version;
pub mod world;
