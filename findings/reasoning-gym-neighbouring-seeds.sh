#!/usr/bin/env bash
# reasoning-gym 0.1.25: data sets of neighbouring seeds are the same items, moved by one place. Whoever
# trains with seed 42 and tests with seed 43 tests on what was trained.
#
# Guess: other items for another seed.
# Seen:  item i is drawn from seed + i: 399 of 400 questions of seed 43 stand in seed 42.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
packages reasoning-gym==0.1.25
expect 'import reasoning_gym

train, test = (
    [item["question"] for item in reasoning_gym.create_dataset("chain_sum", size=400, seed=seed)]
    for seed in (42, 43)
)
print("equal, one place on:", train[1:] == test[:-1])' \
'equal, one place on: True'
