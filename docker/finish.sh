#!/bin/sh
# Finish the folder $2, which is to be copied to the environment $1: leave out the test suites of libraries, give all files
# one time, $SOURCE_DATE_EPOCH, and compile them. The same input makes the same layer.
set -eu
environment=$1 folder=$2
stamp() { find "$folder" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +; }

find "$folder/lib" -depth -type d -name tests -path '*/site-packages/*/*' -exec rm -rf {} +
stamp
# compileall would take the variable for a wish to check hashes at each import
epoch=$SOURCE_DATE_EPOCH
unset SOURCE_DATE_EPOCH
"$environment/bin/python" -m compileall -q -j 0 -s "$folder" -p "$environment" "$folder/lib" > /dev/null || [ $? = 1 ]
SOURCE_DATE_EPOCH=$epoch
stamp
