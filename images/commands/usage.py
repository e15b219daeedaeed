"""What the help of the whole command line ends in: exit codes and examples."""

EPILOG = """\
exit codes:
   0 done                        7 store, disk or output
   1 other failure               8 program missing or failed, or host unfit
   2 wrong usage                 9 Docker
   3 matrix.yaml                10 the image's tests failed
   4 lock missing or stale      11 a registry
   5 a file cannot be fetched   12 a registry wants a login, or another one
   6 bytes are not as locked    13 an image is larger than its budget
                               130 interrupted

examples:
  python build.py --target torch280-sglang052       build one image (the same as `build --target`)
  python build.py --target torch280-sglang052 --cache-from registry.example.com/team/roll-cache
                                                    build one image from what others made
  python build.py fetch --target torch280-sglang052 what it needs, to build it without a network
  python build.py list                              what can be built, and what has been
  python build.py diff torch280-sglang052 torch280-sglang055   what moving costs
  python build.py load --target torch280-sglang052  give it to the Docker daemon
  python build.py bundle --target torch280-sglang052 --out DIR   for a machine without a registry
  python build.py push --target torch280-sglang052 --to registry.example.com/team/roll-sglang
  python build.py promote --target torch280-sglang052 --to registry.example.com/team/roll-sglang
  python build.py test --target torch280-sglang052  test it, in a container where there is Docker
  python build.py test --target torch280-sglang052 --gpu    what needs a GPU; keeps evidence
  python build.py test --target torch280-sglang052-roll --gpu --roll CHECKOUT   ROLL itself in it
"""
