# Read by the other scripts: --help prints the comment at their head; a knob
# that cannot be meant is one line and exit code 2. Gives HERE (the repository)
# and PYTHON.
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
PYTHON="${PYTHON:-$HERE/.venv/bin/python}"

for word; do
  case "$word" in -h | --help)
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit
    ;;
  esac
done

fail() {
  echo "error: $1" >&2
  exit 2
}
require_python() {
  command -v "$PYTHON" >/dev/null || fail "no $PYTHON: run bash scripts/install.sh first"
}
require_numbers() { # names of knobs that are a number or not set
  for knob; do
    [[ "${!knob-}" =~ ^[0-9]*$ ]] || fail "$knob=${!knob}: expected a whole number"
  done
}
require_model() {
  local said="${MODEL:-efficientdet-d0}" known='^efficientdet-(d[0-7]|d7x|lite[0-4])$'
  [[ ! "efficientdet-$said" =~ $known ]] || fail "MODEL=$said: say MODEL=efficientdet-$said"
  [[ "$said" =~ $known ]] ||
    fail "MODEL=$said: expected efficientdet-d0 ... d7, d7x or efficientdet-lite0 ... lite4"
}
