"""`python -m fcn_trt` is `fcn-trt`."""

from fcn_trt.cli.app import main

main()
