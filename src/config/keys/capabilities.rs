//! The names of capabilities (capabilities(7)).

use super::values::{self, Parsed};

/// All names without `cap_` up to Linux 6. The index of each is its number.
const NAMES: &str = "\
    chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable \
    net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot \
    sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease \
    audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read \
    perfmon bpf checkpoint_restore";

/// The kernel keeps sets of capabilities in 64 bits.
const MAX: u32 = 63;

/// A list of capabilities as numbers. The list is separated by commas and has names, in any case and with or
/// without `cap_`, or numbers.
pub(crate) fn list(text: &[u8]) -> Parsed<Vec<u32>> {
    let mut numbers = Vec::new();
    for name in values::list(text) {
        numbers.push(number(name)?);
    }
    Ok(numbers)
}

/// A list of capabilities, as [`list`] reads it, as a set of bits.
pub(crate) fn bits(text: &[u8]) -> Parsed<u64> {
    list(text).map(|numbers| numbers.into_iter().fold(0, |bits, number| bits | 1 << number))
}

/// A list of capabilities, or `all`, as a set of bits.
pub(crate) fn set(text: &[u8]) -> Parsed<u64> {
    if matches!(text, b"all" | b"ALL") { Ok(u64::MAX) } else { bits(text) }
}

fn number(written: &[u8]) -> Parsed<u32> {
    let name = written.to_ascii_lowercase();
    let name = name.strip_prefix(b"cap_").unwrap_or(&name);
    let named = || NAMES.split(' ').zip(0..).find(|(known, _)| known.as_bytes() == name);
    let number = values::count(name).ok().or_else(|| named().map(|(_, number)| number));
    number
        .filter(|&number| number <= MAX)
        .ok_or_else(|| values::not_one_of("capability", name, &NAMES.split(' ').collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(list(b"chown, CAP_SYS_ADMIN,cap_checkpoint_restore,12,"), Ok(vec![0, 21, 40, 12]));
        assert_eq!(list(b""), Ok(vec![]));
        assert_eq!((set(b"kill,63"), set(b"all")), (Ok(1 << 5 | 1 << 63), Ok(u64::MAX)));
        assert_eq!(set(b"ALL"), Ok(u64::MAX));
        assert_eq!(
            list(b"sys_admn"),
            Err("unknown capability 'sys_admn', did you mean 'sys_admin'?".to_owned())
        );
        for (slip, meant) in [("CAP_SYS_ADMN", "sys_admin"), ("CAP_NET_BIND", "net_bind_service")] {
            let wrong = list(slip.as_bytes()).unwrap_err();
            assert!(wrong.ends_with(&format!("did you mean '{meant}'?")), "{wrong}");
        }
        for wrong in ["64", "-1", "cap_"] {
            assert!(list(wrong.as_bytes()).unwrap_err().contains("net_bind_service"), "{wrong}");
        }
    }

    #[test]
    fn names_are_at_the_place_of_their_number() {
        for (name, number) in [("kill", 5), ("net_raw", 13), ("mknod", 27), ("syslog", 34), ("bpf", 39)] {
            assert_eq!(list(name.as_bytes()), Ok(vec![number]), "{name}");
        }
    }
}
