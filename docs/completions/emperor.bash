# Completions of emperor for bash. Made by tests/docs/documents.rs from src/config/keys/.
# shellcheck shell=bash

_emperor() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    # In '--key=value' the equals sign is a word of its own.
    if [[ $word == '=' ]]; then
        word=''
    elif [[ $before == '=' ]]; then
        before=${COMP_WORDS[COMP_CWORD - 2]}
    fi

    local at command='' control=() options='' names='' name dashes=''
    for ((at = 1; at < COMP_CWORD; at++)); do
        case ${COMP_WORDS[at]} in
            --control)
                [[ ${COMP_WORDS[at + 1]} == '=' ]] && ((at++))
                control=(--control "${COMP_WORDS[++at]}")
                ;;
            --) dashes=$at ;;
            -* | =) ;;
            *) command=${command:-${COMP_WORDS[at]}} ;;
        esac
    done
    case $command in
        status) options='--control --is-up --json --problems --state --watch' names=true ;;
        logs) options='--control --follow --lines' names=true ;;
        ps) options='--control' names=true ;;
        enter) options='--control --user' names=true ;;
        reload) options='--control --wait' names=true ;;
        stop) options='--control --now --wait' names=true ;;
        start) options='--control --wait' names=true ;;
        roll) options='--control' ;;
        upgrade) options='--control --roll' ;;
        help) before=--help ;;
    esac
    if [[ $command == enter && -n $dashes ]]; then
        # What to run there.
        if ((dashes == COMP_CWORD - 1)); then
            mapfile -t COMPREPLY < <(compgen -c -- "$word")
        else
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
        fi
        return
    elif [[ $command == status && $before == --state ]]; then
        mapfile -t COMPREPLY < <(compgen -P "${word%"${word##*,}"}" -W 'idle starting running reloading killed restarting stopping backoff invalid stopped waiting ignored' -- "${word##*,}")
        return
    elif [[ -n $options && $before != --control ]]; then
        if [[ $word == -* ]]; then
            mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
        elif [[ $names == true ]]; then
            # A name with a blank is typed with a backslash or a quote.
            word=${word//\\/}
            word=${word#[\'\"]}
            while read -r name; do
                [[ $name == "$word"* ]] && COMPREPLY+=("$name")
            done < <("${COMP_WORDS[0]}" "${control[@]}" status 2>/dev/null |
                awk 'NF == 0 { exit } NR == 1 { width = index($0, "STATE") - 1; next } substr($0, width + 1) ~ /^ignored/ { next } { name = substr($0, 1, width); sub(/ +$/, "", name); sub(/\/[0-9]+$/, "", name) } !seen[name]++ { print name }')
        fi
        return
    fi

    case $before in
        --cgroup-opt|--check|--control|--emperor-pidfile|--include|--inherit|--ini|--logto|--vassal-init|--vassals-include|--vassals-include-before|--vassals-inherit|--vassals-inherit-before)
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            return
            ;;
        --emperor|--emperor-cgroup|--emperor-on-demand-dir|--emperor-on-demand-directory|--log-dir|--map-tree)
            mapfile -t COMPREPLY < <(compgen -d -- "$word")
            return
            ;;
        --uid)
            mapfile -t COMPREPLY < <(compgen -u -- "$word")
            return
            ;;
        --add-gid|--gid)
            mapfile -t COMPREPLY < <(compgen -g -- "$word")
            return
            ;;
        --cap)
            mapfile -t COMPREPLY < <(compgen -P "${word%"${word##*,}"}" -W 'audit_control audit_read audit_write block_suspend bpf checkpoint_restore chown dac_override dac_read_search fowner fsetid ipc_lock ipc_owner kill lease linux_immutable mac_admin mac_override mknod net_admin net_bind_service net_broadcast net_raw perfmon setfcap setgid setpcap setuid sys_admin sys_boot sys_chroot sys_module sys_nice sys_pacct sys_ptrace sys_rawio sys_resource sys_time sys_tty_config syslog wake_alarm' -- "${word##*,}")
            return
            ;;
        --map-groups|--map-users)
            mapfile -t COMPREPLY < <(compgen -P "${word%"${word##*,}"}" -W 'auto' -- "${word##*,}")
            return
            ;;
        --emperor-use-clone)
            mapfile -t COMPREPLY < <(compgen -P "${word%"${word##*,}"}" -W 'cgroup fs ipc net pid user uts' -- "${word##*,}")
            return
            ;;
        --log-format)
            mapfile -t COMPREPLY < <(compgen -P "${word%"${word##*,}"}" -W 'json text' -- "${word##*,}")
            return
            ;;
        --help)
            mapfile -t COMPREPLY < <(compgen -W 'alarm append appendn call callint callintret callret cd chdir chmod chown chown2 chroot creat create enter exec exit fuse hostname log logs mkdir mount print ps putenv reload rmdir roll safeexec spinningfifo start status sticky stop umask umount unlink upgrade wait_for_dir wait_for_file wait_for_fs wait_for_socket write writefifo writen --add-gid --cap --cgroup-opt --cgroup-optional --check --control --cpu-max --emperor --emperor-cgroup --emperor-extra-ext --emperor-extra-extension --emperor-freq --emperor-magic-exec --emperor-max-reloads --emperor-max-starts --emperor-max-throttle --emperor-nofollow --emperor-on-demand-dir --emperor-on-demand-directory --emperor-on-demand-exec --emperor-on-demand-ext --emperor-on-demand-extension --emperor-pidfile --emperor-required-heartbeat --emperor-stats --emperor-stats-server --emperor-stop-timeout --emperor-throttle --emperor-tyrant --emperor-tyrant-initgroups --emperor-tyrant-max --emperor-tyrant-nofollow --emperor-use-clone --exec-as-emperor --gid --help --hook-as-emperor --hook-as-vassal --include --inherit --ini --json --log-dir --log-format --logto --map-groups --map-tree --map-users --memory-max --metrics --no-initgroups --pids-max --set --set-ph --set-placeholder --show-config --strict --uid --vassal-init --vassal-set --vassals-include --vassals-include-before --vassals-inherit --vassals-inherit-before --vassals-set --version' -- "$word")
            return
            ;;
        --cpu-max|--emperor-extra-ext|--emperor-extra-extension|--emperor-freq|--emperor-max-reloads|--emperor-max-starts|--emperor-max-throttle|--emperor-on-demand-exec|--emperor-on-demand-ext|--emperor-on-demand-extension|--emperor-required-heartbeat|--emperor-stats|--emperor-stats-server|--emperor-stop-timeout|--emperor-throttle|--emperor-tyrant-max|--exec-as-emperor|--hook-as-emperor|--hook-as-vassal|--memory-max|--metrics|--pids-max|--set|--set-ph|--set-placeholder|--vassal-set|--vassals-set)
            mapfile -t COMPREPLY < <(true)
            return
            ;;
    esac

    if [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W '--add-gid --cap --cgroup-opt --cgroup-optional --check --control --cpu-max --emperor --emperor-cgroup --emperor-extra-ext --emperor-extra-extension --emperor-freq --emperor-magic-exec --emperor-max-reloads --emperor-max-starts --emperor-max-throttle --emperor-nofollow --emperor-on-demand-dir --emperor-on-demand-directory --emperor-on-demand-exec --emperor-on-demand-ext --emperor-on-demand-extension --emperor-pidfile --emperor-required-heartbeat --emperor-stats --emperor-stats-server --emperor-stop-timeout --emperor-throttle --emperor-tyrant --emperor-tyrant-initgroups --emperor-tyrant-max --emperor-tyrant-nofollow --emperor-use-clone --exec-as-emperor --gid --help --hook-as-emperor --hook-as-vassal --include --inherit --ini --json --log-dir --log-format --logto --map-groups --map-tree --map-users --memory-max --metrics --no-initgroups --pids-max --set --set-ph --set-placeholder --show-config --strict --uid --vassal-init --vassal-set --vassals-include --vassals-include-before --vassals-inherit --vassals-inherit-before --vassals-set --version' -- "$word")
    else
        mapfile -t COMPREPLY < <(
            compgen -W 'status logs ps enter reload stop start roll upgrade help' -- "$word"
            compgen -f -- "$word"
        )
    fi
}

complete -o filenames -F _emperor emperor
