#!/usr/bin/env bash
# The one entry that all files of this folder start; it can be tried on any machine.
#
#   entry.sh train CONFIG OUT             one model, on NODES machines with GPUS processes each
#   entry.sh predict MODEL OUT FILE...    part PART of PARTS of the files, into OUT/PART
#   entry.sh ray COMMAND...               polytask COMMAND... --ray, on a Ray cluster of NODES machines
#
# From the environment (each file sets what its system calls otherwise):
#   NODES=1 NODE=0 HEAD=127.0.0.1    machines, the number of this one, the name of the first
#   PORT=29500                       of the first machine, free
#   GPUS=1                           processes a machine; one a GPU where there are GPUs
#   RESTARTS=0                       train: how often all start again from the last checkpoint when a process is lost; the
#                                    first process may then be on any machine, so that all need to see OUT
#   PARTS=1 PART=0                   jobs that share the files, the number of this one
#   SHARED=.                         ray: a folder that all machines see and others cannot read
#
# Killed or preempted, the same command goes on.
set -euo pipefail

NODES=${NODES:-1} NODE=${NODE:-0} HEAD=${HEAD:-127.0.0.1} PORT=${PORT:-29500} GPUS=${GPUS:-1}
RESTARTS=${RESTARTS:-0} PARTS=${PARTS:-1} PART=${PART:-0} SHARED=${SHARED:-.}

train() {
  local config=$1 out=$2
  local meeting=(--node-rank "$NODE" --master-addr "$HEAD" --master-port "$PORT")
  if ((RESTARTS)); then
    meeting=(--rdzv-backend c10d --rdzv-endpoint "$HEAD:$PORT" --rdzv-conf "is_host=$((NODE == 0))"
      --max-restarts "$RESTARTS")
    # Otherwise what starts again finds the addresses of what was lost.
    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
  fi
  exec torchrun --nnodes "$NODES" --nproc-per-node "$GPUS" "${meeting[@]}" \
    -m polytask train "$config" --out "$out" --resume
}

predict() {
  local model=$1 out=$2 number=0 file
  local mine=()
  shift 2
  for file in "$@"; do
    if ((number++ % PARTS == PART)); then mine+=("$file"); fi
  done
  if ((${#mine[@]} == 0)); then
    echo "part $PART of $PARTS: there are $# files, so none is left for it" >&2
    return
  fi
  exec polytask predict "$model" "${mine[@]}" --out "$out/$PART" --workers "$GPUS"
}

on_ray() {
  # Who reaches a Ray cluster without a token can run programs on it.
  export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$SHARED/ray_token
  if ((NODE == 0)); then
    (umask 077 && python -c 'import secrets; print(secrets.token_hex(32))' >"$SHARED/.ray_token" &&
      mv "$SHARED/.ray_token" "$RAY_AUTH_TOKEN_PATH")
    ray start --head --port "$PORT" --include-dashboard=false --block &
    head=$! # the trap runs when this function has ended
    # By its number: `ray stop` would end what other jobs of yours run on this machine.
    trap 'kill "$head" 2>/dev/null; wait "$head" || true; rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT
    RAY_ADDRESS=$HEAD:$PORT python - "$NODES" <<'WAIT'
import sys, time, ray
for left in range(59, -1, -1):  # until the head answers
    try:
        ray.init(logging_level="error")
        break
    except ConnectionError:
        if not left:
            raise
        time.sleep(2)
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[1]):
    time.sleep(1)
WAIT
    RAY_ADDRESS=$HEAD:$PORT polytask "$@" --ray
  else
    until [[ -s $RAY_AUTH_TOKEN_PATH ]]; do sleep 1; done
    # Until the first machine ends, or cannot be reached.
    ray start --address "$HEAD:$PORT" --block || true
  fi
}

case ${1:-} in
  train) shift && train "$@" ;;
  predict) shift && predict "$@" ;;
  ray) shift && on_ray "$@" ;;
  *)
    echo "entry.sh: found '${1:-}'; accepted: train, predict, ray" >&2
    exit 2
    ;;
esac
