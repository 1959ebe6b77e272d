"""``python -m qiskit_qff``: the same as the command ``qff``."""

from qiskit_qff.cli.main import main

if __name__ == "__main__":
    main()
