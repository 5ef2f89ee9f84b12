"""`python -m calico`."""

from calico.cli import main

if __name__ == "__main__":
    main()
