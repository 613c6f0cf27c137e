#!/bin/sh
# Both halves of the suite side by side: the tests that start a whole set of processes mostly wait for real time, the
# others compute. Those give way, so that what waits is not late.
#
# sh scripts/test.sh PYTHON
python=$1
others=$(mktemp)
trap 'kill "$computing" 2>/dev/null; rm -f "$others"' EXIT
trap 'exit 130' INT TERM

nice -n 10 "$python" -m pytest -p no:cacheprovider -m 'not daemon' >"$others" 2>&1 &
computing=$!
"$python" -m pytest -m daemon
waiting_said=$?
wait "$computing"
computing_said=$?
computing=
cat "$others"
[ "$waiting_said" -eq 0 ] && [ "$computing_said" -eq 0 ]
