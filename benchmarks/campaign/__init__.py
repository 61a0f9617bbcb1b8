"""Bad input, kills and faults, thousands of times over: does anything get lost, or end in a trace?

    python -m benchmarks.campaign --minutes=30 --seed=1          the large one
    python -m benchmarks.campaign --rounds=1 --seed=1            a small one, as in the tests
    python -m benchmarks.campaign --case=labels:1000017          one case again, with its output

What a case is stands with its kind:
  inputs.py, record_inputs.py, run_inputs.py, hparams.py   a mutated file goes to its readers
  kills.py                                                 a command is killed, and repeated
  faults.py                                                the disk or the memory fails a command

A case is wrong when it ends in anything but success or one clear line, when readers contradict each
other, when it takes too long, when the same command afterwards does not give byte for byte what an
undisturbed one gives, or when it leaves temporary files. All chance comes from the case's number.

Commands are real processes with real exit codes, forked from one that has imported TensorFlow and
computed nothing yet: a command costs its work, not the import.
"""
