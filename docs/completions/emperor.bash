# Completions of emperor for bash. Made by tests/docs/documents.rs from src/config/keys/.
# shellcheck shell=bash

_emperor() {
    local word=${COMP_WORDS[COMP_CWORD]}
    case ${COMP_WORDS[COMP_CWORD - 1]} in
        --cgroup-opt|--check|--control|--emperor-pidfile|--include|--inherit|--ini|--logto|--vassal-init|--vassals-include|--vassals-include-before|--vassals-inherit|--vassals-inherit-before)
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            return
            ;;
        --emperor|--emperor-cgroup|--emperor-on-demand-dir|--emperor-on-demand-directory|--map-tree)
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
        --cap|--cpu-max|--emperor-extra-ext|--emperor-extra-extension|--emperor-freq|--emperor-max-reloads|--emperor-max-starts|--emperor-max-throttle|--emperor-on-demand-exec|--emperor-on-demand-ext|--emperor-on-demand-extension|--emperor-required-heartbeat|--emperor-stats|--emperor-stats-server|--emperor-stop-timeout|--emperor-throttle|--emperor-tyrant-max|--emperor-use-clone|--exec-as-emperor|--hook-as-emperor|--hook-as-vassal|--log-format|--map-groups|--map-users|--memory-max|--metrics|--pids-max|--set|--set-ph|--set-placeholder|--vassal-set|--vassals-set)
            mapfile -t COMPREPLY < <(true)
            return
            ;;
    esac
    if [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W '--add-gid --cap --cgroup-opt --cgroup-optional --check --control --cpu-max --emperor --emperor-cgroup --emperor-extra-ext --emperor-extra-extension --emperor-freq --emperor-magic-exec --emperor-max-reloads --emperor-max-starts --emperor-max-throttle --emperor-nofollow --emperor-on-demand-dir --emperor-on-demand-directory --emperor-on-demand-exec --emperor-on-demand-ext --emperor-on-demand-extension --emperor-pidfile --emperor-required-heartbeat --emperor-stats --emperor-stats-server --emperor-stop-timeout --emperor-throttle --emperor-tyrant --emperor-tyrant-initgroups --emperor-tyrant-max --emperor-tyrant-nofollow --emperor-use-clone --exec-as-emperor --gid --help --hook-as-emperor --hook-as-vassal --include --inherit --ini --json --log-format --logto --map-groups --map-tree --map-users --memory-max --metrics --no-initgroups --pids-max --set --set-ph --set-placeholder --show-config --strict --uid --vassal-init --vassal-set --vassals-include --vassals-include-before --vassals-inherit --vassals-inherit-before --vassals-set --version' -- "$word")
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
    fi
}

complete -o filenames -F _emperor emperor
