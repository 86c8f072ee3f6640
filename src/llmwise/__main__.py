"""`python -m llmwise` is the command `llmwise`."""

from llmwise.cli.main import main

if __name__ == "__main__":
    main()
