"""The conformance kit: what a gateway, or any server of models, must get right, asked of one that runs.

    cases       what is asked, what the provider answers to it, and what has to come of both
    golden      answers that providers really gave, with date and source
    questions   a case's question in each dialect
    said        what an answer says, read from the wire; written without the gateway's own codecs
    sent        what a request says, read from what reached the provider
    run         the provider in this process, the gateway at its address, one cell after the other
    report      the table

The gateway under test is reached over HTTP and is nobody in particular. The providers behind it are played by the
scripted provider, so that each case knows what was answered; a server that has no provider behind it is asked the cases
that need none.
"""
